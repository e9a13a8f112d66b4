"""Divergence: at the first token where two models part, which blocks make the difference?

Both models read one shared prefix, the prompt and the response as far as their greedy choices are the same. There the
base would write t_B and the tuned model t_T. With ONE final norm and unembedding,
   Y = logit(t_T) - logit(t_B)  at the last position.
1. CELLS. At boundary l, blocks l, l + 1, ... of model L run on the residual stream that model U has before block l, at
   ALL positions: Y(U, L). Boundary 0: U gives the embeddings only; boundary n_layers: U gives everything.
2. EFFECTS (`itlens.diff.divergence_effects`): upstream, the mean over L of Y(T, L) - Y(B, L); late, the mean over U of
   Y(U, T) - Y(U, B); interaction. upstream + late = Y(T, T) - Y(B, B), whatever the boundary.
3. Y(B, B) and Y(T, T) are the plain runs.
Which model wrote the response does not matter: it is read as far as the first token that the other would not write.

Runs, one model in memory at a time: the writer reads all of the response, then the other model, which finds the place
(2 passes); then each runs ONCE over the prefix, and the batch grows on its way: before block l the other model's stream
is added as a row (`_late_runs`). By rows that is a pass, and half a pass for each block, of each model; the prefix is
mostly much shorter than the response.

Two halves of a model were exchanged before (arXiv 2605.07284); the sweep over boundaries with tests is new here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.divergence.probe_result import Parting, divergence_dataset
from itlens.hooked.cache import ActivationCache, DiskArrays, activation_cache, disk_arrays
from itlens.hooked.hooks import Hook, run_hooked
from itlens.hooked.pair_inputs import as_pair, asked_sides, comparable, forced_pair, refuse_beyond_either
from itlens.hooked.readout import Readout, refuse_other_readout, save_readout
from itlens.hooked.response import stop_ids
from itlens.hooked.tokens import Forced, left_out_attrs, with_ends
from itlens.models import HookedModel, ModelPair, source_attrs, source_of
from itlens.models.memory import room_for, rows_at_a_time
from itlens.models.precision import as_numbers
from itlens.models.running import undisturbed
from itlens.progress import Counted, late_bar
from itlens.prompts import PromptsLike
from itlens.results.provenance import provenance
from itlens.selection import whole_number
from itlens.tokenization import Tokenizer, token_text
from itlens.weights.words import wide_dtype


def divergence(
    pair: ModelPair | tuple[HookedModel, HookedModel],
    prompts: PromptsLike | Sequence[Forced],
    max_new_tokens: int = 200,
    *,
    responses: Literal["tuned", "base"] = "tuned",
    format: str = "raw",
    prepend_bos: bool | None = None,
    batch_size: int | None = None,
    cache: str | Path | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> xr.Dataset:
    """Exchange early and late blocks of two models where their greedy answers first differ.

    pair: a `ModelPair` or (base, tuned). prompts: texts, `Prompt` objects, or a list of `Forced`. max_new_tokens: the
    answers are compared as far as this. responses: which model generates, "tuned" or "base"; the place where they part
    is the same. format: as in `format_prompts`; a chat template is the tuned model's. batch_size: rows at a time;
    default by memory. cache: a folder for residual streams, which are removed in the end; default the system's.
    progress: a bar, none, or a function of (done, all).

    Returns a Dataset. On (prompt): position (from 0, of the response; NaN where the answers do not part within it),
    token_base, token_tuned ("" there), id_base, id_tuned (-1), compared (number of response tokens that were compared),
    finish, group. On (prompt, boundary, upstream, late): logit_gap, Y through the base's final norm and unembedding,
    and logit_gap_tuned, through the tuned model's; boundary l, 0 to n_layers: the stream before block l; upstream and
    late in "base", "tuned". A token that ends the text counts as one.

    Raises PairError (other tokenizers, other shapes), PromptError (a text that one model cannot read, no response),
    ProbeError (unknown option, a model whose last step is of an unknown kind, numbers that are not finite).
    """
    if responses not in ("tuned", "base"):
        raise ProbeError(f"responses={responses!r} is unknown; expected one of 'tuned', 'base'.")
    sides = asked_sides("tuned->base" if responses == "tuned" else "base->tuned", responses)
    rows = None if batch_size is None else whole_number("batch_size", batch_size, 1)
    count = whole_number("max_new_tokens", max_new_tokens, 1)
    both = as_pair(pair)
    report = comparable(both)
    size = int(min(report.base["vocabulary"], report.tuned["vocabulary"]))
    context = int(min(report.base["context"], report.tuned["context"]))
    with disk_arrays(cache) as folder, activation_cache(cache) as unembeddings:
        with late_bar("divergence", show=progress is True) as bar:
            read = forced_pair(
                both, prompts, responses, sides, format=format, max_new_tokens=count, prepend_bos=prepend_bos,
                progress=progress is True,
            )  # fmt: skip
            refuse_beyond_either(read, report)
            tell = Counted(progress if callable(progress) else bar, 4 * len(read))
            work = _Work(folder, unembeddings, size, rows, tell)
            writer = _Side.of(getattr(both, sides.donor), sides.donor, work)
            texts = writer.read_all(with_ends(read, writer.stops, context))
            writer.model = None  # one model in memory at a time
            other = _Side.of(getattr(both, sides.receiver), sides.receiver, work)
            places = other.find_places(texts)
            other.run_late(texts, places, writer.name)
            tokenizer = source_of(other.loaded).tokenizer
            other.model = None
            writer.model = getattr(both, sides.donor) if any(place is not None for place in places) else None
            writer.run_late(texts, places, other.name)
        partings = [
            _parting(number, text, place, writer, other, tokenizer)
            for number, (text, place) in enumerate(zip(texts, places, strict=True))
        ]
    attrs = {f"{side.name}_{key}": value for side in (writer, other) for key, value in side.attrs.items()}
    settings = {"responses": responses, "format": format, "max_new_tokens": count, "vocabulary": size}
    said = provenance("divergence", **attrs, **settings, **left_out_attrs(read))
    return divergence_dataset(texts, partings, report, said)


@dataclass(frozen=True)
class PartingPlace:
    """Where two models part: the number of the target, and what the model that did not write would write there."""

    target: int
    other: int


@dataclass(frozen=True)
class _Work:
    """What both sides share. size: ids that both models have; rows: at a time, None for what the memory allows."""

    folder: DiskArrays
    unembeddings: ActivationCache
    size: int
    rows: int | None
    tell: Counted


@dataclass
class _Side:
    """One model of the pair, and what is kept of it. finals: by prompt, its last residual stream in each run of
    `_late_runs`, (1 + n_layers, d_model): the plain run first."""

    name: str
    model: HookedModel | None
    work: _Work
    readout: Readout
    stops: list[int]
    attrs: dict[str, str]
    finals: dict[int, torch.Tensor]

    @classmethod
    def of(cls, model: HookedModel, name: str, work: _Work) -> _Side:
        """Keep what is needed when the model has left memory."""
        stops = stop_ids(source_of(model), work.size)
        readout = save_readout(model, work.unembeddings, name, work.size)
        return cls(name, model, work, readout, stops, source_attrs(model), {})

    @property
    def loaded(self) -> HookedModel:
        """The model."""
        assert self.model is not None
        return self.model

    def read_all(self, prompts: Sequence[Forced]) -> list[Forced]:
        """Read all of the responses; streams go to disk. Return the prompts, ends as this model writes them."""
        texts: list[Forced] = []
        with undisturbed(self.loaded):
            for number, prompt in enumerate(prompts):
                kept, logits = _plain(self.loaded, prompt, [prompt.positions[0], prompt.positions[-1]])
                if number == 0:
                    at = prompt.positions[0]
                    refuse_other_readout(
                        self.readout, self.loaded, kept[-1, at : at + 1], logits[:1], remedy="leave this finding out"
                    )
                self.work.folder.put(f"{self.name} {number}", kept)
                texts.append(prompt.with_end(self.stops, logits[-1]))
                self.work.tell()
        return texts

    def find_places(self, prompts: Sequence[Forced]) -> list[PartingPlace | None]:
        """Return where this model would first write another token than the response has; None where it never would."""
        places: list[PartingPlace | None] = []
        with undisturbed(self.loaded):
            for prompt in prompts:
                _, logits = _plain(self.loaded, prompt, prompt.positions, streams=False)
                own = logits[:, : self.work.size].argmax(dim=1).tolist()
                differ = [target for target, token in enumerate(own) if token != prompt.targets[target]]
                places.append(PartingPlace(differ[0], own[differ[0]]) if differ else None)
                self.work.tell()
        return places

    def run_late(self, prompts: Sequence[Forced], places: Sequence[PartingPlace | None], other: str) -> None:
        """Run this model's late blocks on the other model's streams, at every boundary."""
        for number, (prompt, place) in enumerate(zip(prompts, places, strict=True)):
            if place is not None:
                with undisturbed(self.loaded):
                    self.finals[number] = self._of_prompt(number, prompt, place, other)
            self.work.tell()

    def _of_prompt(self, number: int, prompt: Forced, place: PartingPlace, other: str) -> torch.Tensor:
        model, folder = self.loaded, self.work.folder
        prefix = list(prompt.read[: prompt.positions[place.target] + 1])
        foreign = folder.get(f"{other} {number}")[:, : len(prefix)]
        own, final = late_runs(model, prefix, foreign[:-1], self.work.rows, f"prompt {prompt.id!r}")
        if not bool(torch.isfinite(final).all()):
            raise ProbeError(
                f"The last residual stream of {source_of(model).name} is not finite on prompt {prompt.id!r}; load the "
                'models with dtype="float32" or check their weights.'
            )
        if not folder.has(f"{self.name} {number}"):
            folder.put(f"{self.name} {number}", own)
        return final.cpu()


def _plain(
    model: HookedModel, prompt: Forced, positions: Sequence[int], *, streams: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the streams before each block and after the last, (1 + n_layers, position, d_model), and the logits."""
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor, hook: object) -> None:
        kept.append(value[0].detach().clone())

    hooks: list[Hook] = [(point, keep) for point in _points(model)] if streams else []
    tokens = torch.tensor([prompt.read], device=next(model.parameters()).device)
    name, targets = f"prompt {prompt.id!r}", len(positions)
    with torch.no_grad(), room_for(model, name, len(prompt.read), targets=targets):
        logits = run_hooked(model, tokens, hooks, positions=positions)[0]
    return torch.stack(kept) if kept else tokens, logits


def _points(model: HookedModel) -> list[str]:
    layers = int(model.cfg.n_layers)
    return [*(f"blocks.{layer}.hook_resid_pre" for layer in range(layers)), f"blocks.{layers - 1}.hook_resid_post"]


def late_runs(
    model: HookedModel, tokens: Sequence[int], streams: torch.Tensor, rows: int | None = None, name: str = "the prompt"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a model as it is, and its blocks l, l + 1, ... on the l-th of the given streams, for every l.

    tokens: what is read. streams: (n_layers, position, d_model), the stream before each block. rows: at a time, None
    for what the memory allows.

    Returns the model's own streams before each block and after the last, (1 + n_layers, position, d_model), and the
    last stream at the last position of each run, (1 + n_layers, d_model): the plain run, then boundary 0, 1, ...
    The batch begins with one row, the plain run; before block l the row of boundary l is added.
    """
    layers = int(model.cfg.n_layers)
    own: torch.Tensor | None = None
    finals: list[torch.Tensor] = []
    for begin, end in _chunks(layers, (rows or rows_at_a_time(model, len(tokens))) - 1):
        with torch.no_grad(), room_for(model, name, len(tokens), rows=1 + end - begin):
            plain, final = _growing(model, tokens, streams, begin, end)
        if own is None:
            own, finals = plain, [final[:1]]
        finals.append(final[1:])
    assert own is not None  # every model has a block
    return own, torch.cat(finals)


def _chunks(layers: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield boundaries [begin, end), at most `rows` (and at least one) at a time."""
    step = max(1, rows)
    for begin in range(0, layers, step):
        yield begin, min(begin + step, layers)


def _growing(
    model: HookedModel, tokens: Sequence[int], streams: torch.Tensor, begin: int, end: int
) -> tuple[torch.Tensor, torch.Tensor]:
    kept: list[torch.Tensor] = []
    final: list[torch.Tensor] = []

    def enter(layer: int) -> Callable[[torch.Tensor, Any], torch.Tensor | None]:
        def add_row(value: torch.Tensor, hook: object) -> torch.Tensor | None:
            kept.append(value[0].detach().clone())
            if not begin <= layer < end:
                return None
            return torch.cat([value, streams[layer].to(value)[None]])

        return add_row

    def leave(value: torch.Tensor, hook: object) -> None:
        kept.append(value[0].detach().clone())
        final.append(value[:, -1].detach().clone())

    *before, after = _points(model)
    hooks: list[Hook] = [*((point, enter(layer)) for layer, point in enumerate(before)), (after, leave)]
    run_hooked(model, torch.tensor([list(tokens)], device=next(model.parameters()).device), hooks)
    return torch.stack(kept), final[0]


def _parting(
    number: int, prompt: Forced, place: PartingPlace | None, writer: _Side, other: _Side, tokenizer: Tokenizer
) -> Parting | None:
    """Return the numbers of one prompt; None where the answers do not part."""
    if place is None:
        return None
    written = {writer.name: prompt.targets[place.target], other.name: place.other}
    ids = torch.tensor([written["tuned"], written["base"]])
    gaps: dict[str, dict[str, np.ndarray]] = {}
    for side in (writer, other):
        by_readout = {}
        for readout in (writer, other):
            finals = side.finals[number]
            normed = readout.readout.normalised(finals.to(wide_dtype(finals.dtype)))
            logits = [readout.readout.of_ids(normed, id.expand(len(normed))) for id in ids]
            by_readout[readout.name] = as_numbers(logits[0] - logits[1])
        gaps[side.name] = by_readout
    return Parting(place.target, written, {it: token_text(tokenizer, id) for it, id in written.items()}, gaps)
