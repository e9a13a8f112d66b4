"""What study.json says: the two models, what results depend on, and the settings as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from itlens.models.compatibility import PairReport, Side
from itlens.provenance import provenance, short_name
from itlens.study.parts import WHICH


class Asked(Protocol):
    """What one part was asked with."""

    identity: dict[str, Any]
    settings: dict[str, Any]


def study_record(
    models: Mapping[str, Side],
    labels: tuple[str, str] | None,
    checked: PairReport,
    runs: Sequence[Asked],
    prompts: int,
    common: Mapping[str, Any],
    adapter: str | Path | None,
) -> dict[str, Any]:
    """What study.json holds. prompts: how many. common: settings that all parts share."""
    own = (short_name(models["base"].name), _tuned_label(models["tuned"], adapter))
    named = dict(zip(WHICH, labels or own, strict=True))
    facts = {
        which: {"label": named[which], "name": side.name, "revision": side.revision, **side.facts}
        for which, side in models.items()
    }
    identity: dict[str, Any] = {f"{which} model": side.revision for which, side in models.items()}
    settings: dict[str, Any] = {}
    for run in runs:
        identity, settings = identity | run.identity, settings | run.settings
    versions = {name: value for name, value in provenance("compare").items() if name.endswith("_version")}
    return {
        "identity": identity | {name: value for name, value in common.items() if name != "seed"},
        "models": facts,
        "prompts": prompts,
        "settings": {**settings, **common},
        "notices": list(checked.notices),
        "versions": {name.removesuffix("_version"): value for name, value in versions.items()},
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }


def load_settings(load: dict[str, Any]) -> dict[str, Any]:
    """The loading options that results depend on, as text."""
    defaults = {"dtype": "float32", "backend": "hooked"}
    shown = {name: str(load.get(name, default)).removeprefix("torch.") for name, default in defaults.items()}
    if (tokenizer := load.get("tokenizer")) is not None:
        shown["tokenizer"] = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        shown["tokenizer"] = str(tokenizer) if isinstance(tokenizer, (str, Path)) else shown["tokenizer"]
    return shown


def _tuned_label(side: Side, adapter: str | Path | None) -> str:
    return short_name(side.name) if adapter is None else f"{short_name(side.name)} + {short_name(str(adapter))}"
