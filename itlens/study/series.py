"""`compare_series`: any number of models of one shape, each compared with the first, and all of them in order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from itlens.errors import PairError, ProbeError
from itlens.models import load_pair
from itlens.models.compatibility import compare_sides
from itlens.prompts import Prompt
from itlens.provenance import short_name
from itlens.study.asked import asked_probes, asked_prompts
from itlens.study.parts import READING
from itlens.study.running import compare
from itlens.study.series_comparison import SeriesComparison, open_series
from itlens.study.several import SeveralFolder
from itlens.study.several_pages import series_page
from itlens.study.templates import LOAD


def compare_series(
    models: Sequence[Any] | Mapping[str, Any],
    prompts: str | Path | Iterable[Prompt] = "builtin",
    probes: str | Sequence[str] = "all",
    out: str | Path = "runs/series",
    resume: bool = True,
    *,
    labels: Sequence[str] | None = None,
    limit: int | None = None,
    **options: Any,
) -> SeriesComparison:
    """Compare a base with every model that came of it, in order: base, fine-tuned, after preference tuning ...

    models: in order, or by label. labels: what to call them; default their short names. A folder per model after the
    first holds its comparison with the first, whose results are computed once; `out` holds the series: differences
    against the first and between neighbours, and the trend along all. Everything else is as in `itlens.compare`.

    Raises PairError (fewer than two models, labels that are not one for each, models of different shape), and what
    `compare` raises.
    """
    listed, names = _named(models, labels)
    if "adapter" in options:
        raise ProbeError("A series takes whole models; merge the adapter into its model first.")
    named = asked_probes(probes)
    load = {name: options[name] for name in LOAD if name in options}
    for label, model in zip(names[1:], listed[1:], strict=True):  # all, before hours are spent on the first
        pair = load_pair(listed[0], model, **load)
        try:
            compare_sides(pair.side("base"), pair.side("tuned"))
        except PairError as error:
            raise PairError(f"{names[0]} and {label}: {error}") from error
        pair.check_files()
    given = asked_prompts(prompts, limit) if {*READING} & {*named} else []
    folder = SeveralFolder(out, "series")
    inside = [f"{place}-{_readable(label)}" for place, label in enumerate(names[1:], start=2)]
    folder.open({"labels": names, "folders": inside}, inside)
    first = None
    for label, model, name in zip(names[1:], listed[1:], inside, strict=True):
        run = folder.path / name
        compare(listed[0], model, given, named, run, resume, labels=(names[0], label), base_from=first, **options)
        first = first or run
    found = open_series(folder.path)
    folder.write(found.tables, series_page(found))
    return found


def _named(models: Any, labels: Sequence[str] | None) -> tuple[list[Any], list[str]]:
    if isinstance(models, Mapping):
        if labels is not None:
            raise PairError("The models have labels already; leave labels out, or give the models as a list.")
        listed, names = list(models.values()), [str(label) for label in models]
    elif isinstance(models, Sequence) and not isinstance(models, str):
        listed = list(models)
        names = [str(label) for label in labels] if labels is not None else _short_names(listed)
    else:
        raise PairError(f"models is a {type(models).__name__}; expected a list of models, or models by label.")
    if len(listed) < 2:
        raise PairError(
            f"A series needs two or more models, got {len(listed)}; give the base first, then its tuned selves."
        )
    if len(names) != len(listed):
        raise PairError(f"There are {len(listed)} models and {len(names)} labels; give one label for each.")
    if twice := [name for name in names if names.count(name) > 1 or not name.strip()]:
        raise PairError(f"The label {twice[0]!r} is empty or stands twice; give every model a label of its own.")
    return listed, names


def _short_names(models: list[Any]) -> list[str]:
    """Short names of paths and ids, made different by their place where they are not."""
    names = [short_name(str(model)) if isinstance(model, (str, Path)) else type(model).__name__ for model in models]
    return [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, start=1)]


def _readable(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")[:40] or "model"
