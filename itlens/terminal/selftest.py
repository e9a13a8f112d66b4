"""A selftest in the terminal: recall by strength, false discoveries, p-values under a true null, and what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from itlens.files import visible

_LEGEND = (
    "recall: planted units found, with exact 95 % interval; false: false discoveries, mean over pairs; strength: size "
    "of the plant in units of the noise on the same weights"
)
_PROBE_LEGEND = (
    "same: the largest value between identical models; alarms: noise-only pairs in which anything was found; seconds: "
    "of one reading of all units"
)
_P_LEGEND = (
    "of two noisy copies of the model, exchanged prompt by prompt at random, so that there is nothing to find: share "
    "of p-values up to 0.05, with 95 % interval over pairs of copies (at most 5 % is right; discrete p-values have "
    "less); KS p: small where there are too many p-values under 0.2. as is: the same copies without exchange; "
    "they do differ, by their noise, and a test over prompts finds that: it says that two models differ, not why"
)
_GOAL = 0.95


def print_selftest(found: xr.Dataset, written: list[Path], console: Console | None = None) -> None:
    """Three tables, where the files are, and at the end what it all says."""
    console = console or Console()
    console.print(_recalls(found))
    console.print(_probes(found))
    if found.sizes["test"]:
        console.print(_tests(found))
    for path in written:
        console.print(visible(f"Saved: {path}"), markup=False, highlight=False, soft_wrap=True)
    for sentence in conclusions(found):
        console.print(visible(sentence), style="bold", markup=False, highlight=False)


def conclusions(found: xr.Dataset) -> list[str]:
    """What a selftest says, in sentences: recall at the strongest plants, false discoveries, identical models."""
    if not _pairs(found):
        return ["None of these probes is meant to see any of these plants."]
    return [_recall_said(found), _false_said(found), _identical_said(found)]


def _recall_said(found: xr.Dataset) -> str:
    one = found.sel(scope="all")
    strength, trials = float(found["strength"][-1]), int(one["overall_trials"])
    untested = _untested(found)
    if not trials:
        return f"Recall of plants of strength {strength:g}: not tested: {', '.join(untested)}."
    number = round(float(one["overall_recall"]) * trials)
    said = (
        f"Recall of plants of strength {strength:g}: {float(one['overall_recall']):.2f} "
        f"[{float(one['overall_recall_low']):.2f}, {float(one['overall_recall_high']):.2f}], {number} of {trials}"
    )
    missing = _missing(found)
    held = f"under {_GOAL}: {', '.join(missing)}" if missing else _reached(found, "tested " if untested else "")
    return "; ".join([said, held, *([f"not tested: {', '.join(untested)}"] if untested else [])]) + "."


def _reached(found: xr.Dataset, which: str) -> str:
    """That all point estimates are high enough, and how far down an interval goes."""
    ends = found["overall_recall_low"].sel(scope=found["probe"].values)
    ends = ends.where(np.isfinite(found["overall_recall"].sel(scope=found["probe"].values)), drop=True)
    lowest = ends.isel(scope=int(np.argmin(ends.values)))
    return (
        f"the estimate of every {which}probe reaches {_GOAL} (lowest end of an interval: {float(lowest):.2f}, "
        f"{lowest['scope'].item()})"
    )


def _untested(found: xr.Dataset) -> list[str]:
    """The probes that no strongest plant was read with, and plants that a probe is meant to see but could not."""
    recall = found["overall_recall"]
    out = [str(probe) for probe in found["probe"].values if not np.isfinite(float(recall.sel(scope=probe)))]
    end = found["recall"].isel(strength=-1)
    pairs = [(plant, probe) for plant, probe in _pairs(found) if probe not in out]
    return out + [
        f"{probe} on {plant}" for plant, probe in pairs if not np.isfinite(float(end.sel(plant=plant, probe=probe)))
    ]


def _missing(found: xr.Dataset) -> list[str]:
    """The probes under the goal, over all their plants or on one of them."""
    end, out = found.isel(strength=-1), []
    for probe in found["probe"].values:
        own = float(found["overall_recall"].sel(scope=probe))
        if own < _GOAL:
            out.append(f"{probe} ({own:.2f})")
        for plant, _ in (pair for pair in _pairs(found) if pair[1] == probe):
            mine = end.sel(plant=plant, probe=probe)
            if float(mine["recall"]) < _GOAL:
                ends = f"[{float(mine['recall_low']):.2f}, {float(mine['recall_high']):.2f}]"
                out.append(f"{probe} on {plant} ({float(mine['recall']):.2f} {ends} of {int(mine['trials'])})")
    return out


def _false_said(found: xr.Dataset) -> str:
    one, level = found.sel(scope="all"), float(found.attrs["level"])
    rate = float(one["overall_false"])
    if not np.isfinite(rate):
        return "False discoveries: no unit that could be one."
    ends = " to ".join(_percent(float(one[f"overall_false_{end}"])) for end in ("low", "high"))
    above = [
        f"{probe} ({_percent(float(found['overall_false'].sel(scope=probe)))})"
        for probe in found["probe"].values
        if float(found["overall_false"].sel(scope=probe)) > level
    ]
    held = f"above {100 * level:g} %: {', '.join(above)}" if above else f"no probe above {100 * level:g} %"
    return f"False discoveries there: {_percent(rate)} [{ends}]; {held}."


def _identical_said(found: xr.Dataset) -> str:
    moved = [str(name) for name in found["probe"].values[found["identical"].values > 0]]
    moved += [str(name) for name in found["test"].values[found["p_identical"].values < 1]]
    where = f"a difference in {', '.join(moved)}" if moved else "no difference anywhere"
    return f"Identical models: {where}."


def _pairs(found: xr.Dataset) -> list[tuple[str, str]]:
    """(plant, probe) for what a probe is meant to see."""
    names = [(str(plant), str(probe)) for plant in found["plant"].values for probe in found["probe"].values]
    return [(plant, probe) for plant, probe in names if bool(found["meant"].sel(plant=plant, probe=probe))]


def _recalls(found: xr.Dataset) -> Table:
    table = _table("Recall by strength", _LEGEND)
    table.add_column("plant", no_wrap=True)
    table.add_column("probe", overflow="fold")
    for strength in found["strength"].values:
        table.add_column(f"{strength:g}", justify="right", no_wrap=True)
    for name in ("95 %", "false"):
        table.add_column(name, justify="right", no_wrap=True)
    last = ""
    for plant, probe in _pairs(found):
        mine = found.sel(plant=plant, probe=probe)
        end = mine.isel(strength=-1)
        interval = f"{float(end['recall_low']):.2f}-{float(end['recall_high']):.2f}"
        cells = [_number(value) for value in mine["recall"].values]
        table.add_row(
            "" if plant == last else plant, probe, *cells, interval, _percent(float(end["false_discoveries"]))
        )
        last = plant
    return table


def _probes(found: xr.Dataset) -> Table:
    table = _table("Probes, at the strongest plants", _PROBE_LEGEND)
    for name in ("probe", "units", "recall", "95 %", "false", "same", "alarms", "seconds"):
        table.add_column(name, justify="left" if name == "probe" else "right", no_wrap=name != "probe")
    for probe in found["probe"].values:
        mine, own = found.sel(probe=probe), found.sel(scope=probe)
        table.add_row(
            Text(str(probe)), f"{int(mine['units'])} {mine['kind'].item()}s", _number(float(own["overall_recall"])),
            "-".join(_number(float(own[f"overall_recall_{end}"])) for end in ("low", "high")),
            _percent(float(own["overall_false"])), f"{float(mine['identical']):g}",
            _percent(float(mine["null_false_pairs"])), f"{float(mine['seconds']):.2f}",
        )  # fmt: skip
    return table


def _tests(found: xr.Dataset) -> Table:
    table = _table("p-values where nothing is to be found", _P_LEGEND)
    for name in ("test", "pairs", "p-values", "<= 0.05", "95 %", "KS p", "as is"):
        table.add_column(name, justify="left" if name == "test" else "right", no_wrap=name != "test")
    for test in found["test"].values:
        mine = found.sel(test=test)
        interval = "-".join(f"{100 * float(mine[f'p_share_{end}']):.1f}" for end in ("low", "high"))
        none = not int(mine["p_count"])
        table.add_row(
            Text(str(test)), f"{int(mine['p_pairs'])}", f"{int(mine['p_count'])}", _percent(float(mine["p_share"])),
            "" if none else f"{interval} %", _number(float(mine["p_ks_p"])), _percent(float(mine["p_changed_share"])),
        )  # fmt: skip
    return table


def _table(title: str, caption: str) -> Table:
    """Narrow enough for 80 columns: where there is no room, columns of numbers must not push names aside."""
    return Table(title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if np.isfinite(value) else ""
