"""What the logit difference says: how many tokens rise or fall in more texts than by chance, and which most."""

from __future__ import annotations

import numpy as np
import pandas as pd

from itlens.findings.base import Headline, Tables, Verdict
from itlens.report.numbers import headline, whole
from itlens.report.text import short, with_signs
from itlens.stats.paired import too_few

LEAST = 6  # texts that a test needs
_LEVEL = 0.05
_NAMED = 5  # tokens in the sentence
_TEST = "sign test, Benjamini-Hochberg"
_UNTESTED = "changes of logits were not tested (too few texts)"
_CAVEAT = (
    "Tokens are chosen because they moved most, so that their intervals are too narrow; whether they moved at all is "
    "corrected over the whole vocabulary."
)


def logit_verdict(tables: Tables) -> Verdict:
    """Return the `Verdict` on the tables of the finding, of which token_changes says it all."""
    changes = tables["token_changes"]
    texts, positions = (int(changes.attrs[name]) for name in ("texts", "positions"))
    rose, fell, tokens = (int(changes.attrs[name]) for name in ("rose", "fell", "tokens"))
    risen, fallen = rows_of_change(changes, "risen"), rows_of_change(changes, "fallen")
    numbers = [_token(rows.iloc[0], texts) for rows in (risen, fallen) if len(rows)]
    moved = (rose + fell) / tokens if tokens else np.nan
    numbers.append(Headline("likely tokens that moved consistently", 100 * moved, n=tokens, unit="%", signed=False))
    where = f"{counted(positions, 'position')} of {counted(texts, 'text')}"
    if texts < LEAST:
        return Verdict(
            f"Not tested: {too_few(texts, LEAST, 'text')}, {where}.", tested=False,
            numbers=tuple(numbers), short=_UNTESTED,
        )  # fmt: skip
    if not rose + fell and texts < int(changes.attrs["needed"]):
        return Verdict(
            f"Not tested: {texts} texts cannot show a single token among so many that differ, about "
            f"{int(changes.attrs['needed'])} could (sign test, Benjamini-Hochberg; {where}).", tested=False,
            numbers=tuple(numbers), short=_UNTESTED,
        )  # fmt: skip
    if not rose + fell:
        return Verdict(
            f"No significant change: of {counted(tokens, 'token')} that a model would say, none is significant "
            f"({_TEST}; {where}).",
            numbers=tuple(numbers),
            short="no significant change of a token's logit",
        )
    first = (
        f"Of {counted(tokens, 'token')} that a model would say, {whole(rose)} {'rises' if rose == 1 else 'rise'} and "
        f"{whole(fell)} {'falls' if fell == 1 else 'fall'} consistently ({_TEST}; {where})."
    )
    risen, fallen = (rows[rows["p_bh"] < _LEVEL] for rows in (risen, fallen))
    parts = [_most(risen, "risen", rose, "tuned model"), _most(fallen, "fallen", fell, "base")]
    said = "; ".join(part for part in parts if part)
    return Verdict(
        f"{first} {said[0].upper()}{said[1:]}.",
        direction="changed",
        caveat=_CAVEAT,
        numbers=tuple(numbers),
        short=_short(risen, fallen, rose, fell),
    )


def rows_of_change(changes: pd.DataFrame, change: str) -> pd.DataFrame:
    """Return the rows of tokens that rose ("risen") or fell ("fallen"), the significant ones first."""
    rows = changes[changes["change"] == change]
    significant = rows["p_bh"] < _LEVEL
    return pd.concat([rows[significant], rows[~significant]])


def quoted(word: object) -> str:
    """Return a token as a sentence shows it: “ the”."""
    return f"“{short(with_signs(word), 24)}”"


def counted(count: int, what: str) -> str:
    """Write a number of things: "1 text", "2 texts"."""
    return f"{whole(count)} {what}{'' if count == 1 else 's'}"


def _most(rows: pd.DataFrame, change: str, count: int, model: str) -> str:
    """rows: the significant ones. count: of tokens that a model would say; `model` may be the other one."""
    if not count:
        return ""
    if not len(rows):
        which = f"the {change} one is not" if count == 1 else f"none of the {change} ones is"
        return f"{which} likely under the {model}"
    first = rows.iloc[0]
    others = ", ".join(quoted(word) for word in rows["word"].tolist()[1:_NAMED])
    size = headline(first["text_mean"], first["text_low"], first["text_high"], first["p_bh"], "logits")
    return f"most {change}: {quoted(first['word'])} by {size}{', then ' + others if others else ''}"


def _token(row: pd.Series, texts: int) -> Headline:
    value, low, high = (float(row[name]) for name in ("text_mean", "text_low", "text_high"))
    return Headline(f"logit of {quoted(row['word'])}, tuned − base", value, low, high, float(row["p_bh"]), texts,
                    "logits")  # fmt: skip


def _short(risen: pd.DataFrame, fallen: pd.DataFrame, rose: int, fell: int) -> str:
    for rows, does in ((risen, "raises"), (fallen, "lowers")):
        if len(rows):
            return f"tuning {does} {', '.join(quoted(word) for word in rows['word'].tolist()[:3])} most"
    return f"tuning raises {whole(rose)} and lowers {whole(fell)} of the tokens that a model would say"
