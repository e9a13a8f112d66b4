"""Does the change come from the weights or from the chat template? Base and tuned, each with and without it.

1. Four sets of attributions: base and tuned, read without ("off") and with the template ("on").
2. Each is restricted to the prompt's own text and scored there (`itlens.diff.content_scores`): the same characters in
   all four, whatever the tokens.
3. Per statistic and prompt: main effects of weights and of template, and their interaction
   (`itlens.diff.cell_contrasts`).
4. With the template on, how much of the importance lies on the template itself: base against tuned, paired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from itlens.diff.cell_contrasts import CELLS, EFFECTS, Cell, two_by_two
from itlens.diff.content_scores import prompt_scores
from itlens.diff.statistics import p_text, paired_row
from itlens.errors import ResultError
from itlens.provenance import provenance

if TYPE_CHECKING:
    from itlens.prompts import Prompt
    from itlens.prompts.formats import Framed

_OWN = ("instruction_score", "response_tokens")
_WORDS = {
    "instruction_score": "instruction's importance score",
    "response_tokens": "length of the response (tokens)",
}


class TemplateEffects(NamedTuple):
    """What `template_effects` found. Both tables and `prompts` have their provenance in `.attrs`.

    effects: per statistic, group and effect (`itlens.diff.two_by_two`). template_share: per group, base against tuned
    with the template on (`itlens.diff.statistics.paired_row`). prompts: a row per prompt and cell.
    """

    effects: pd.DataFrame
    template_share: pd.DataFrame
    prompts: pd.DataFrame

    def __repr__(self) -> str:
        columns = ["statistic", "group", "effect", "n", "mean", "ci_low", "ci_high", "effect_size", "p_holm"]
        rows = self.effects.loc[self.effects["effect"].isin(EFFECTS), columns]
        table = rows.to_string(index=False, float_format=lambda x: f"{x:.3g}", na_rep="")
        return f"{template_verdict(self.effects)}\n\n{table}"


def template_effects(
    cells: Mapping[Cell, Any],
    prompts: Iterable[Prompt],
    framed: Iterable[Framed],
    *,
    statistics: Mapping[str, Mapping[Cell, Any]] | None = None,
    levels: int = 10,
    threshold: int = 7,
    p: float = 4,
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> TemplateEffects:
    """Main effects of weights and chat template, and their interaction, on what `itlens.attribute` measures.

    cells: ("base" | "tuned", "off" | "on") -> results of `itlens.attribute` by prompt id, "off" of the prompts as they
    are, "on" of the formatted ones. prompts: the originals. framed: of `itlens.prompts.frame_prompts(prompts, "chat",
    tokenizer)`, the template of the "on" cells. statistics: further numbers, a name to four Series by prompt id each.
    levels, threshold, p: see `itlens.density`. minimum: groups of fewer prompts get no test.

    Statistics: instruction_score (on content tokens, spans moved along), response_tokens, and those given.
    Raises ResultError for missing cells or prompts, "on" results that were read without the template, and results that
    do not belong to their prompts.
    """
    if not isinstance(cells, Mapping) or set(cells) != set(CELLS):
        got = sorted(map(str, cells)) if isinstance(cells, Mapping) else type(cells).__name__
        raise ResultError(f"A 2 x 2 needs the cells {', '.join(map(str, CELLS))}, got {got}.")
    originals, frames = list(prompts), list(framed)
    _refuse_unframed(originals, frames)
    how: dict[str, Any] = {"levels": levels, "threshold": threshold, "p": p}
    options: dict[str, Any] = {"seed": seed, "resamples": resamples, "minimum": minimum}
    scored = {
        cell: prompt_scores(results, originals, frames if cell[1] == "on" else None, **how).set_index("id")
        for cell, results in cells.items()
    }
    given = {name: {cell: scored[cell][name] for cell in CELLS} for name in _OWN} | dict(statistics or {})
    groups = scored["base", "off"]["group"]
    effects = pd.concat(
        [two_by_two(values, groups, **options).assign(statistic=name) for name, values in given.items()],
        ignore_index=True,
    )
    effects.insert(0, "statistic", effects.pop("statistic"))
    made = TemplateEffects(effects, _share_table(scored["base", "on"], scored["tuned", "on"], **options), _long(scored))
    attrs: dict[Any, Any] = provenance(
        "diff.template_effects", **_models(cells), levels=levels, threshold=threshold, power=p, **options
    )
    for table in made:
        table.attrs = attrs
    return made


def template_verdict(
    effects: pd.DataFrame, *, statistic: str = "instruction_score", group: str = "all", alpha: float = 0.05
) -> str:
    """One or two plain sentences: does most of a statistic's change come from the weights or from the template?

    effects: of `template_effects` or `itlens.diff.two_by_two`. An effect counts when its Holm p is below alpha. One
    is called the larger when it counts and the interval of the difference in size leaves zero out.
    Raises ResultError for a statistic or group that there is not.
    """
    found = effects[effects["group"] == group]
    if "statistic" in effects:
        found = found[found["statistic"] == statistic]
    if found.empty:
        raise ResultError(f"There are no effects on {statistic!r} in the group {group!r}.")
    rows = {str(row["effect"]): row for _, row in found.iterrows()}
    words, n = _WORDS.get(statistic, statistic), int(rows["weights"]["n"])
    if str(rows["weights"]["note"]).startswith("too few"):
        return f"Nothing can be concluded on the {words}: {rows['weights']['note']}."
    figures = "; ".join(f"{name} {_figures(rows[name])}" for name in EFFECTS)
    counts = {name: bool(rows[name]["p_holm"] < alpha) for name in EFFECTS}
    said = f"{_source(rows, counts, words)} ({n} prompts; {figures})."
    if counts["interaction"]:
        more = "more" if rows["interaction"]["mean"] > 0 else "less"
        said += f" The template raises it {more} in the tuned model than in the base."
    return said


def _source(rows: Mapping[str, pd.Series], counts: Mapping[str, bool], words: str) -> str:
    if not counts["weights"] and not counts["template"]:
        return f"Neither weights nor template can be told to change the {words}"
    balance = rows["balance"]
    apart = balance["ci_low"] > 0 or balance["ci_high"] < 0
    larger = "weights" if balance["mean"] > 0 else "template"
    if apart and counts[larger]:
        return f"Most of the change of the {words} comes from the {larger}"
    if counts["weights"] and counts["template"]:
        return f"Both weights and template change the {words}, and it cannot be told which does more"
    only = "weights" if counts["weights"] else "template"
    return f"Only the {only} can be told to change the {words}; which of the two does more cannot be told"


def _figures(row: pd.Series) -> str:
    return (
        f"{row['mean']:+.3g}, 95 % interval {row['ci_low']:+.3g} to {row['ci_high']:+.3g}, Holm {p_text(row['p_holm'])}"
    )


def _refuse_unframed(prompts: list[Prompt], framed: list[Framed]) -> None:
    texts = {prompt.id: prompt.text for prompt in prompts}
    if framed and all(one.prompt.text == texts.get(one.prompt.id) for one in framed):
        raise ResultError(
            'The framed prompts read as the originals do, so there is no template to compare; frame them with "chat".'
        )


def _share_table(base: pd.DataFrame, tuned: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Base against tuned with the template on; prompts of which one side has no importance at all are left out."""
    both = pd.DataFrame({"group": base["group"], "base": base["template_share"], "tuned": tuned["template_share"]})
    both = both.dropna(subset=["base", "tuned"])
    parts = {"all": both} | {str(name): both[both["group"] == name] for name in dict.fromkeys(both["group"]) if name}
    return pd.DataFrame(
        [{"group": name, **paired_row(part["base"], part["tuned"], **options)} for name, part in parts.items()]
    )


def _long(scored: Mapping[Cell, pd.DataFrame]) -> pd.DataFrame:
    parts = [table.reset_index().assign(model=model, template=state) for (model, state), table in scored.items()]
    out = pd.concat(parts, ignore_index=True)
    out["template_share"] = np.where(out["template"] == "on", out["template_share"], np.nan)
    return out[["id", "group", "model", "template", "instruction_score", "response_tokens", "template_share"]]


def _models(cells: Mapping[Cell, Any]) -> dict[str, str]:
    def names(results: Any) -> str:
        listed = list(results.values()) if isinstance(results, Mapping) else list(results)
        return ", ".join(dict.fromkeys(str(ds.attrs.get("model", "")) for ds in listed))

    return {f"{side}_model": names(cells[side, "off"]) for side in ("base", "tuned")}
