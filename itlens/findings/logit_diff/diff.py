"""Which tokens rose and fell, as tables: the strongest of all, of each group of texts, and of each theme.

The tests are those of `itlens.logit_diff` (sign test over texts, Benjamini-Hochberg over tokens). A token rose where it
is above 0 in more texts than below, as that test counts. What is listed is
chosen from it: by default only tokens that a model would say in these texts (among its ten most probable at 0.05 % of
the positions at least, which is what tables do not print as 0.0 %; the tuned model for what rose, the base for what
fell), since the logits of bytes and pieces that no text holds move as well, and often most.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.results.provenance import provenance

LEVEL = 0.05
SAID = 0.0005  # of the positions: a model would say a token; a smaller share is printed as 0.0 %
_FEWEST = 6  # signs that a p below 0.05 needs: 2^(1 - n)
Change: TypeAlias = Literal["risen", "fallen"]
_CHANGES: Mapping[Change, tuple[int, str]] = {"risen": (1, "likely_tuned"), "fallen": (-1, "likely_base")}
_NUMBERS = (
    *("mean", "risen", "fallen", "text_mean", "text_low", "text_high", "share_texts", "share_below", "p", "p_bh"),
    *("likely_base", "likely_tuned"),
)
_WORDS = 8  # of a group


def token_changes(ld: xr.Dataset, *, most: int = 100, likely: bool = True) -> pd.DataFrame:
    """Return the tokens that rose and those that fell, in more texts than not, strongest first.

    ld: of `itlens.logit_diff`. most: rows of each. likely: only tokens that the tuned model (of what rose) or the base
    (of what fell) would say (`SAID`). Order: significant ones first, then by the share of positions at which a token
    is among the most risen (fallen), then by the mean over texts. Returns change ("risen", "fallen"), token (id), word,
    and its numbers; attrs: rose, fell, tokens (how many of the likely tokens rose or fell significantly, and how many
    there are), rose_all, fell_all, tokens_all (of the whole vocabulary), needed (texts with which as many tokens as
    have one sign in all texts, at least one, could be significant; 0 where no token differs in six texts). Raises
    ResultError for another kind of result.
    """
    _refuse_other(ld, "token_changes")
    tables: list[pd.DataFrame] = []
    counted: dict[str, int] = {}
    everywhere = (ld["likely_base"].values >= SAID) | (ld["likely_tuned"].values >= SAID)
    for change, (sign, seen) in _CHANGES.items():
        mean, side = sign * ld["text_mean"].values, sign * (ld["share_texts"].values - ld["share_below"].values) > 0
        significant = (ld["p_bh"].values < LEVEL) & side
        name = "rose" if sign > 0 else "fell"
        counted |= {name: int((significant & everywhere).sum()), f"{name}_all": int(significant.sum())}
        listed = np.flatnonzero(side & ((ld[seen].values >= SAID) if likely else True))
        order = listed[np.lexsort((-mean[listed], -ld[change].values[listed], ~significant[listed]))][:most]
        rows: dict[str, object] = {"change": change, "token": order, "word": ld["word"].values[order].astype(object)}
        rows |= {number: ld[number].values[order] for number in _NUMBERS}
        tables.append(pd.DataFrame(rows))
    table: pd.DataFrame = pd.concat(tables, ignore_index=True)
    sizes = {"tokens": int(everywhere.sum()), "tokens_all": ld.sizes["token"], "needed": _needed(ld)}
    table.attrs.update(provenance("diff.token_changes", **_of(ld), **counted, **sizes, most=most, likely=likely))
    return table


def group_changes(ld: xr.Dataset) -> pd.DataFrame:
    """Return what rose in each group of texts, of tokens that the tuned model would say (`SAID`).

    Returns group, texts, rose (number of tokens with p_bh < 0.05 in the group: sign test over its texts,
    Benjamini-Hochberg over tokens; NaN under 6 texts), risen (the words that rose most), own (the words that rose most
    beyond the mean of the other groups: chosen, not tested). Raises ResultError for another kind of result.
    """
    _refuse_other(ld, "group_changes")
    words, possible = ld["word"].values.astype(object), ld["likely_tuned"].values >= SAID
    means, p = ld["group_mean"].values, ld["group_p_bh"].values
    above = ld["group_share"].values > ld["group_below"].values
    rows = []
    for place, group in enumerate(ld["group"].values.astype(str)):
        mean, texts = means[place], int(ld["group_texts"].values[place])
        tested = bool(np.isfinite(p[place]).any())
        risen = possible & above[place] & ((p[place] < LEVEL) if tested else True)
        others = np.delete(means, place, axis=0)
        beyond = mean - others.mean(axis=0) if len(others) else np.zeros_like(mean)
        rows.append(
            {
                "group": group,
                "texts": texts,
                "rose": float(risen.sum()) if tested else np.nan,
                "risen": _listed(words, mean, risen),
                "own": _listed(words, beyond, risen & (beyond > 0)),
            }
        )
    table: pd.DataFrame = pd.DataFrame(rows, columns=["group", "texts", "rose", "risen", "own"])
    table.attrs.update(provenance("diff.group_changes", **_of(ld)))
    return table


def token_themes(ld: xr.Dataset) -> pd.DataFrame:
    """Return the themes of what rises together: theme, share (of all that rises), words, where (the group in which it
    is the largest share of what rises, "" without groups), where_share. Raises ResultError for another kind of result.
    """
    _refuse_other(ld, "token_themes")
    groups = ld["group"].values.astype(str)
    rows = []
    for place, theme in enumerate(ld["theme"].values.tolist()):
        at = ld.isel(theme=place)
        by_group = at["theme_group"].values
        best = int(by_group.argmax()) if groups.size else -1
        rows.append(
            {
                "theme": theme,
                "share": float(at["theme_share"]),
                "words": _joined([word for word in at["theme_word"].values.tolist() if word]),
                "where": groups[best] if best >= 0 else "",
                "where_share": float(by_group[best]) if best >= 0 else np.nan,
            }
        )
    table: pd.DataFrame = pd.DataFrame(rows, columns=["theme", "share", "words", "where", "where_share"])
    table.attrs.update(provenance("diff.token_themes", **_of(ld)))
    return table


def _needed(ld: xr.Dataset) -> int:
    """Return how many texts Benjamini-Hochberg needs so that the tokens with one sign in all texts are significant."""
    texts = int(ld.attrs["texts"])
    signs = np.rint(texts * (ld["share_texts"].values + ld["share_below"].values))
    family = int((signs >= _FEWEST).sum())
    one_sign = int(((ld["share_texts"].values == 1) | (ld["share_below"].values == 1)).sum())
    return max(_FEWEST, int(np.ceil(1 + np.log2(family / max(1, one_sign) / LEVEL)))) if family else 0


def _listed(words: np.ndarray, values: np.ndarray, chosen: np.ndarray) -> str:
    places = np.flatnonzero(chosen)
    best = places[np.argsort(-values[places], kind="stable")][:_WORDS]
    return _joined(words[best].tolist())


def _joined(words: list[str]) -> str:
    return " · ".join(word.strip(" ") or "␣" for word in words)


def _of(ld: xr.Dataset) -> Mapping[str, object]:
    same = ("base_model", "tuned_model", "texts", "positions", "top", "vocabulary")
    return {name: ld.attrs[name] for name in same if name in ld.attrs}


def _refuse_other(ld: object, call: str) -> None:
    if not isinstance(ld, xr.Dataset) or ld.attrs.get("probe") != "logit_diff":
        got = "another kind of result" if isinstance(ld, xr.Dataset) else f"a {type(ld).__name__}"
        raise ResultError(f"{call} takes a Dataset of itlens.logit_diff; got {got}.")
    if "share_below" not in ld:
        raise ResultError(f"{call} needs share_below, which this older result has not; run itlens.logit_diff again.")
