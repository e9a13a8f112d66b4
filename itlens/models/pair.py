"""A base and a tuned model: held one at a time, and checked for being comparable before either is loaded."""

from __future__ import annotations

import inspect
import weakref
from pathlib import Path
from typing import Any

from itlens.errors import ModelError, PairError
from itlens.models.checked_files import FileRecord
from itlens.models.checkpoint import check_places, read_model_config
from itlens.models.compatibility import PairReport, Side, compare_sides
from itlens.models.gguf_copy import copies, reading_versions
from itlens.models.hooked_model import HookedModel, backend_of
from itlens.models.load import load_model, resolve_device
from itlens.models.locate import locate
from itlens.models.memory import give_back
from itlens.models.source import place_fingerprint, refuse_broken_files


class ModelPair:
    """A pre-trained model and its tuned self, loaded on first use.

    `pair.base` and `pair.tuned` load when they are first read. With keep_both=False (the default) reading one lets go
    of the other first, so that one set of weights is in memory at a time; going back and forth then loads again.
    With keep_both=True both stay until `release`. References that the caller keeps are the caller's.
    """

    def __init__(
        self, base: Any, tuned: Any, *, adapter: str | Path | None = None, keep_both: bool = False, **same: Any
    ) -> None:
        self._names = {"base": base, "tuned": tuned}
        self._adapters = {"base": None, "tuned": adapter}
        self._same = same
        self._held: dict[str, HookedModel] = {}
        self.keep_both = keep_both

    @property
    def base(self) -> HookedModel:
        """The pre-trained model."""
        return self._model("base")

    @property
    def tuned(self) -> HookedModel:
        """The tuned model."""
        return self._model("tuned")

    @property
    def device(self) -> str:
        """Where the models run: the device asked for, or that of a base that was given as an object."""
        given = self._names["base"]
        own = getattr(given, "cfg", given)  # TransformerLens keeps it there, Hugging Face on the model
        return str(getattr(own, "device", None) or resolve_device(self._same.get("device")))

    def holds(self, which: str) -> bool:
        """Return whether a model is in memory."""
        return which in self._held

    def is_loaded(self, which: str) -> bool:
        """Whether a model that came from files (not one that the caller made) is in memory now."""
        return which in self._held and isinstance(self._names[which], (str, Path))

    def release(self, which: str) -> None:
        """Let go of one model and give its memory back to the system; it loads again when it is next read."""
        if which not in self._names:
            raise ModelError(f'release got {which!r}; expected "base" or "tuned".')
        held = self._held.pop(which, None)
        if held is not None:
            cyclic, watched = backend_of(held) != "hooked", weakref.ref(held)
            del held
            give_back(collect=cyclic or watched() is not None)

    def check(self) -> PairReport:
        """Compare the two by their configs and tokenizers, without loading weights.

        Raises ONE PairError that names every difference that matters: architecture, depth, heads, widths, a token with
        two ids, other ids for the same text. Harmless ones come back as the report's `notices`: tokens added to one
        vocabulary that leave ordinary text alone, embeddings padded or grown by them, a chat template, BOS or EOS in
        one of the two only, identical weights.
        """
        return compare_sides(self.side("base"), self.side("tuned"))

    def check_files(self) -> None:
        """Look through both models' weight files, one tensor at a time, before hours are spent on the first.

        Raises ModelError for files that are truncated or hold NaN, and for weights that are missing or have no place in
        the model. Models given as objects are passed over, and files that were found whole before are not read again.
        """
        remote = bool(self._same.get("trust_remote_code", False))
        with copies(self._same.get("cache", True)):
            for model in self._names.values():
                if isinstance(model, (str, Path)):
                    place = locate(model, revision=self._same.get("revision"), weights=True, code=remote)
                    refuse_broken_files(place)
                    record = FileRecord(
                        place.folder / "config.json", f"places {reading_versions()} {place_fingerprint(place)}"
                    )
                    if not record.known:
                        config = read_model_config(place, trust_remote_code=remote)
                        check_places(place, config, trust_remote_code=remote)
                        record.found_whole()

    def arguments(self, which: str) -> dict[str, Any]:
        """Return what `load_model` is called with for one model: name_or_path, adapter, and the arguments of both."""
        return {"name_or_path": self._names[which], "adapter": self._adapters[which], **self._same}

    def __repr__(self) -> str:
        adapter = self._adapters["tuned"]
        tuned = f"{_shown(self._names['tuned'])}{f' + {adapter}' if adapter is not None else ''}"
        return f"ModelPair(base={_shown(self._names['base'])}, tuned={tuned}, loaded={sorted(self._held)})"

    def _model(self, which: str) -> HookedModel:
        if which not in self._held:
            if not self.keep_both:
                self.release("tuned" if which == "base" else "base")
            self._held[which] = load_model(**self.arguments(which))
        return self._held[which]

    def side(self, which: str) -> Side:
        options = {
            name: self._same[name]
            for name in ("tokenizer", "trust_remote_code", "revision", "dtype")
            if name in self._same
        }
        with copies(self._same.get("cache", True)):
            return Side.of(which, self._names[which], adapter=self._adapters[which], **options)


def load_pair(
    base: Any, tuned: Any = None, *, adapter: str | Path | None = None, keep_both: bool = False, **same: Any
) -> ModelPair:
    """Return a `ModelPair`; nothing is loaded yet.

    base, tuned: whatever `load_model` takes. adapter: a PEFT adapter that is merged into the TUNED model; with tuned
    left out, the tuned model is the base with the adapter. keep_both: see `ModelPair`. same: further arguments of
    `load_model` (device, dtype, tokenizer, backend, trust_remote_code, check, revision), the same for both models.
    """
    known = set(inspect.signature(load_model).parameters) - {"name_or_path", "adapter"}
    unknown = sorted(set(same) - known)
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise ModelError(f"load_pair got the unknown arguments {names}; expected some of {', '.join(sorted(known))}.")
    if tuned is None and adapter is None:
        raise PairError("load_pair got no tuned model; give one, or adapter= for the base with an adapter.")
    return ModelPair(base, base if tuned is None else tuned, adapter=adapter, keep_both=keep_both, **same)


def _shown(name: Any) -> str:
    return repr(str(name)) if isinstance(name, (str, Path)) else type(name).__name__
