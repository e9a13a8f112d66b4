"""Does the change come from the weights or from the chat template? Base and tuned, each with and without it.

1. Four sets of attributions: base and tuned, read without ("off") and with the template ("on").
2. Each is restricted to the prompt's own text and scored there (`diff_content`): the same characters in all four,
   whatever the tokens.
3. Per statistic and prompt: main effects of weights and of template, and their interaction (`itlens.stats.two_by_two`).
4. With the template on, how much of the importance lies on the template itself: base and tuned, paired.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from itlens.errors import ResultError
from itlens.findings.attribution.diff_align import Results
from itlens.findings.attribution.diff_content import prompt_scores
from itlens.results.provenance import provenance
from itlens.stats.groups import paired
from itlens.stats.two_by_two import CELLS, Cell, Numbers, TemplateEffects, refuse_other_cells, two_by_two

if TYPE_CHECKING:
    from itlens.prompts import Prompt
    from itlens.prompts.formats import Framed


_STATISTICS = ("instruction_score", "response_tokens")


def template_effects(
    cells: Mapping[Cell, Results],
    prompts: Iterable[Prompt],
    framed: Iterable[Framed],
    *,
    statistics: Mapping[str, Mapping[Cell, Numbers]] | None = None,
    levels: int = 10,
    threshold: int = 7,
    p: float = 4,
    seed: int = 0,
    resamples: int = 10_000,
    minimum: int = 5,
) -> TemplateEffects:
    """Test the effects of weights and chat template, and their interaction, on what `itlens.attribute` measures.

    cells: ("base" | "tuned", "off" | "on") -> results of `itlens.attribute` by prompt id, "off" of the prompts as they
    are, "on" of the formatted ones. prompts: the originals. framed: of `itlens.prompts.frame_prompts(prompts, "chat",
    tokenizer)`, the template of the "on" cells. statistics: further numbers, a name to four Series by prompt id each.
    levels, threshold, p: as in `itlens.importance_density`. minimum: groups of fewer prompts get no test.

    Statistics: instruction_score (on content tokens, spans moved along), response_tokens, and those given.
    Raises ResultError for missing cells or prompts, "on" results that were read without the template, and results that
    do not belong to their prompts.
    """
    refuse_other_cells(cells)
    originals, frames = list(prompts), list(framed)
    _refuse_unframed(originals, frames)
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    scored = {
        cell: prompt_scores(
            results, originals, frames if cell[1] == "on" else None, levels=levels, threshold=threshold, p=p
        ).set_index("id")
        for cell, results in cells.items()
    }
    given = {name: {cell: scored[cell][name] for cell in CELLS} for name in _STATISTICS} | dict(statistics or {})
    groups = scored["base", "off"]["group"]
    effects = pd.concat(
        [two_by_two(values, groups, **options).assign(statistic=name) for name, values in given.items()],
        ignore_index=True,
    )
    effects.insert(0, "statistic", effects.pop("statistic"))
    made = TemplateEffects(effects, _share_table(scored["base", "on"], scored["tuned", "on"], **options), _long(scored))
    attrs = provenance(
        "diff.template_effects", **_models(cells), levels=levels, threshold=threshold, power=p, **options
    )
    for table in made:
        table.attrs = attrs
    return made


def _refuse_unframed(prompts: list[Prompt], framed: list[Framed]) -> None:
    texts = {prompt.id: prompt.text for prompt in prompts}
    if framed and all(frame.prompt.text == texts.get(frame.prompt.id) for frame in framed):
        raise ResultError(
            'The framed prompts read as the originals do, so there is no template to compare; frame them with "chat".'
        )


def _share_table(base: pd.DataFrame, tuned: pd.DataFrame, *, seed: int, resamples: int, minimum: int) -> pd.DataFrame:
    """Compare base with tuned, the template on; prompts of which one model has no importance at all are left out."""
    both = pd.DataFrame({"group": base["group"], "base": base["template_share"], "tuned": tuned["template_share"]})
    return paired(both, seed=seed, resamples=resamples, minimum=minimum).drop(columns="p_holm")


def _long(scored: Mapping[Cell, pd.DataFrame]) -> pd.DataFrame:
    cells = [table.reset_index().assign(model=model, template=state) for (model, state), table in scored.items()]
    prompts = pd.concat(cells, ignore_index=True)
    prompts["template_share"] = np.where(prompts["template"] == "on", prompts["template_share"], np.nan)
    return prompts[["id", "group", "model", "template", "instruction_score", "response_tokens", "template_share"]]


def _models(cells: Mapping[Cell, Results]) -> dict[str, str]:
    def names(results: Results) -> str:
        listed = list(results.values()) if isinstance(results, Mapping) else list(results)
        return ", ".join(dict.fromkeys(str(ds.attrs.get("model", "")) for ds in listed))

    return {f"{side}_model": names(cells[side, "off"]) for side in ("base", "tuned")}
