"""study.json: the two models, what results depend on, and the settings as people read them.

identity    what all results share: the models by fingerprint, precision, backend
reading     how prompts are read (`StudyPrompts`), and each one's id and digest; empty where no finding reads any
findings    of each finding: identity, settings for people, options to read again; asked: names of the last run's

A finding can be added later, and so can prompts. What all results share must be the same, and so must the identity of
a finding that has results already, and the reading and the prompts that there are where one of these reads prompts. A
finding without results binds nobody.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itlens.errors import StoreError
from itlens.findings import findings
from itlens.findings.base import SIDES, number_of_unit
from itlens.results.provenance import hooked_exists, provenance, short_name
from itlens.study.prompts import StudyPrompts
from itlens.tokenization import Tokenizer

if TYPE_CHECKING:
    from itlens.models.compatibility import PairReport, Side

SCHEMA = 2  # of study.json and of the folder; 0.1.0 wrote no number
Study = dict[str, Any]
_KNOWN: dict[str, type] = {"identity": dict, "reading": dict, "findings": dict, "models": dict, "settings": dict}
_NAME = re.compile(r"[a-z][a-z0-9_-]*")  # of a finding, which names its folder
_KNOWN |= {"versions": dict, "notices": list, "prompts": int, "created": str}


@dataclass(frozen=True)
class KnownModel:
    """A model as study.json knows it; stands for a `Side` where no model is at hand."""

    name: str
    label: str
    facts: Mapping[str, Any]
    revision: str = ""
    tokenizer: Tokenizer | None = field(default=None, repr=False)


def study_record(
    models: Mapping[str, Side],
    labels: tuple[str, str] | None,
    checked: PairReport,
    records: Mapping[str, Mapping[str, Any]],
    reading: StudyPrompts | None,
    common: Mapping[str, Any],
    adapter: str | Path | None,
) -> Study:
    """Return what study.json holds. records: of each finding (`option_records`). common: settings that all share."""
    own = (short_name(models["base"].name), _tuned_label(models["tuned"], adapter))
    named = dict(zip(SIDES, labels or own, strict=True))
    facts = {
        side: {"label": named[side], "name": model.name, "revision": model.revision, **model.facts}
        for side, model in models.items()
    }
    identity = {f"{side} model": model.revision for side, model in models.items()}
    versions = {name: value for name, value in provenance("compare").items() if name.endswith("_version")}
    return {
        "schema": SCHEMA,
        "identity": identity | {name: value for name, value in common.items() if name != "seed"},
        "reading": {} if reading is None else _reading(reading),
        "findings": dict(records),
        "asked": list(records),
        "models": facts,
        "prompts": 0 if reading is None else len(reading.prompts),
        "settings": dict(common),
        "notices": [*checked.notices, *(() if reading is None else reading.notices)],
        "versions": {name.removesuffix("_version"): value for name, value in versions.items()},
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _reading(read: StudyPrompts) -> dict[str, Any]:
    rendered = {"rendered": read.rendered} if read.rendered else {}
    return {"identity": read.settings, "settings": read.settings, "prompts": read.digests, **rendered}


def prompt_ids(study: Study) -> list[str]:
    """Return the ids of the study's prompts, in order."""
    return [name for name, _ in study["reading"].get("prompts", ())]


def rendering_of(study: Study | None) -> datetime | None:
    """Return when the clock of the study's chat template stood; None where there is no study, or no clock."""
    text = study["reading"].get("rendered") if study else None
    return datetime.fromisoformat(text) if text else None


def _tuned_label(model: Side, adapter: str | Path | None) -> str:
    return short_name(model.name) if adapter is None else f"{short_name(model.name)} + {short_name(str(adapter))}"


def load_settings(load: Mapping[str, Any]) -> dict[str, Any]:
    """Return the loading options that results depend on, as text."""
    defaults = {"dtype": "float32", "backend": "hooked"}
    shown = {name: str(load.get(name, default)).removeprefix("torch.") for name, default in defaults.items()}
    if not hooked_exists():
        shown["backend"] = "bridge"
    if (tokenizer := load.get("tokenizer")) is not None:
        shown["tokenizer"] = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        shown["tokenizer"] = str(tokenizer) if isinstance(tokenizer, (str, Path)) else shown["tokenizer"]
    return shown


def refuse_no_study(study: Any, where: Path) -> None:
    """Raise StoreError where study.json is not one that this version reads."""
    if isinstance(study, dict) and isinstance(study.get("identity"), dict) and study.get("schema") != SCHEMA:
        versions = study.get("versions")
        version = versions.get("itlens", "0.1.0") if isinstance(versions, dict) else "0.1.0"
        raise StoreError(
            f"{where} was written by itlens {version}, which kept its results in another way; read it with that "
            "version, or give a new folder."
        )
    if not _is_study(study):
        raise StoreError(f"{where} is not a study of itlens; run `itlens compare` into a new folder.")


def _is_study(study: Any) -> bool:
    return (
        isinstance(study, dict)
        and all(isinstance(study.get(name), kind) for name, kind in _KNOWN.items())
        and set(SIDES) <= set(study["models"])
        and all(isinstance(model, dict) and {"label", "name"} <= set(model) for model in study["models"].values())
        and bool(study["findings"])
        and all(_NAME.fullmatch(name) for name in study["findings"])
        and (not study["reading"] or _is_reading(study["reading"]))
        and all(
            isinstance(part, dict)
            and all(isinstance(part.get(key), dict) for key in ("identity", "settings", "options"))
            for part in study["findings"].values()
        )
        and isinstance(study.get("asked", []), list)
        and isinstance(study["settings"].get("seed"), int)
    )


def _is_reading(reading: Mapping[str, Any]) -> bool:
    prompts = reading.get("prompts")
    return (
        all(isinstance(reading.get(name), dict) for name in ("identity", "settings"))
        and _is_moment(reading.get("rendered", ""))
        and isinstance(prompts, list)
        and all(isinstance(each, list) and len(each) == 2 and all(isinstance(t, str) for t in each) for each in prompts)
    )


def _is_moment(text: Any) -> bool:
    try:
        return text == "" or bool(datetime.fromisoformat(text))
    except (TypeError, ValueError):
        return False


def reads_prompts(study: Study, names: Collection[str] | None = None) -> bool:
    """Whether a finding of the study (or one of these) reads prompts; a finding that is not installed may."""
    known = findings()
    return any(name not in known or known[name].reads_prompts for name in names or study["findings"])


def without(study: Study, names: Collection[str]) -> Study:
    """Return the study as if these findings had never been asked for."""
    stay = {name: part for name, part in study["findings"].items() if name not in names}
    kept = {**study, "findings": stay}
    return kept if stay and reads_prompts(kept) else {**kept, "reading": {}, "prompts": 0}


def differences(held: Study, asked: Study) -> list[str]:
    """Return what keeps two studies from being one; a finding or a prompt that only `asked` has does not."""
    pairs = [(held["identity"], asked["identity"])]
    both = [name for name in asked["findings"] if name in held["findings"]]
    reading = bool(held["reading"] and asked["reading"])
    if reading:
        pairs.append((held["reading"]["identity"], asked["reading"]["identity"]))
    pairs += [(held["findings"][name]["identity"], asked["findings"][name]["identity"]) for name in both]
    found = [
        f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} here"
        for theirs, ours in pairs
        for key in {**ours, **theirs}
        if theirs.get(key) != ours.get(key)
    ]
    if not reading or held["reading"]["identity"].get("format") != asked["reading"]["identity"].get("format"):
        return found  # in another format every prompt is another
    return found + _other_prompts(dict(held["reading"]["prompts"]), dict(asked["reading"]["prompts"]))


def _other_prompts(held: Mapping[str, str], asked: Mapping[str, str]) -> list[str]:
    changed = [name for name in held if name in asked and held[name] != asked[name]]
    gone = [name for name in held if name not in asked]
    return [
        f"{words}: {', '.join(map(repr, names[:3]))}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for words, names in (("prompts that changed", changed), ("prompts that are only there", gone))
        if names
    ]


def outgrown(held: Study, asked: Study) -> list[str]:
    """Return the findings that only `held` has, and whose results are of fewer prompts than there are now."""
    known = findings()
    grown = bool(asked["reading"]) and len(held["reading"].get("prompts", ())) < len(asked["reading"]["prompts"])
    return [
        name
        for name in held["findings"]
        if grown and name not in asked["findings"] and name in known and known[name].reads_prompts
        if not known[name].by_prompt
    ]


def joined(held: Study, asked: Study) -> Study:
    """Return what is asked now, together with the findings that only the held study has."""
    return {
        **asked,
        "findings": {**held["findings"], **asked["findings"]},
        "reading": asked["reading"] or held["reading"],
        "prompts": asked["prompts"] or held["prompts"],
    }


def result_digest(study: Study, name: str, side: str, unit: str) -> str:
    """Return what a unit's result is stamped with: everything that it depends on.

    Of one model's results only that model counts, so that another study of it can take them over; both models count
    for a pair, and where one reads the other's responses. Of the prompts only its own counts where a unit is a prompt,
    so that a study can grow.
    """
    known = findings()
    identity = dict(study["identity"])
    reads = name in known and known[name].reads_prompts
    reading = dict(study["reading"].get("identity", {})) if reads else {}
    if side in SIDES and reading.get("responses", "own") in ("own", side):
        reading.pop("responses", None)
        identity.pop(f"{'tuned' if side == 'base' else 'base'} model", None)
    prompts = study["reading"].get("prompts", []) if reads else []
    if reads and known[name].by_prompt:
        prompts = prompts[number_of_unit(unit) :][:1]
    return _digest([identity, reading, prompts, study["findings"][name]["identity"]])


def response_digest(study: Study, writer: str, number: int) -> str:
    """Return what a model's response to prompt `number` (from 0) is stamped with: the model and the prompt, not who is
    read on it."""
    identity = {
        name: value for name, value in study["identity"].items() if name.startswith(writer) or "model" not in name
    }
    reading = {name: value for name, value in study["reading"]["identity"].items() if name != "responses"}
    return _digest([identity, reading, study["reading"]["prompts"][number]])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
