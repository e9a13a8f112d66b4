"""How far the tuned model's responses are from the base's choices: over prompts, places, kinds of tokens and tokens.

1. `shift_shares`: per prompt, the shares of unshifted, marginal and shifted tokens, and KL (tuned || base) of the first
   k tokens and of the rest.
2. `token_shift_tests`, paired over prompts, per group, Holm over groups: the share of tokens that are a model's own
   first choice, base against tuned (on the tuned model's greedy response 1 by construction: what the base lacks is what
   tuning changed), the share of those beyond its third, and the log-probability of the response.
3. `shift_depth`: the share of the whole KL that lies in the first k tokens, against k / length, which is what they
   would have if it were spread evenly ("shallow alignment").
4. `shifted_tokens`, `shift_kinds`: a token (a kind) occurs n times in a prompt and s of these are shifted; the null is
   the share of shifted tokens among the OTHER tokens of the same prompt. Paired over the prompts that have both, so
   that neither a prompt that is shifted as a whole nor a repetition within one counts as many: t-test, or Wilcoxon's
   test where all prompts have the same difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from itlens.errors import ResultError
from itlens.results.provenance import provenance
from itlens.stats.groups import groups_of, paired_groups
from itlens.stats.paired import adjust, cell_interval, paired_cells, wilcoxon

FIRST = 5  # tokens of a response that count as its beginning
MARGINAL = 3  # the last rank that is not yet shifted
TESTED = ("unshifted", "shifted", "logprob")
_TENTHS = 10
_PLACES = 40  # that are shown
_SHARES = ("unshifted", "marginal", "shifted")
_COUNTED = ("n", "difference", "ci_low", "ci_high", "effect_size", "p_paired")


def shift_shares(shift: xr.Dataset, *, first: int = FIRST) -> pd.DataFrame:
    """Return a row per prompt: its id, group and length in tokens, and the numbers below.

    unshifted, marginal, shifted: shares of its tokens by the base's rank; unshifted_tuned, shifted_tuned: the same by
    the tuned model's; logprob, logprob_tuned: means, nats; kl: mean, nats; kl_first, kl_rest: means of the first
    `first` tokens and of the others; first_share: of the summed KL in them; first_even: first / length.

    kl_rest, first_share and first_even are NaN for responses of `first` tokens or fewer, first_share also where the two
    models do not differ. Raises ResultError for another kind of result.
    """
    _refuse_other(shift, "shift_shares")
    rank, kl = shift["rank"].values, shift["kl"].values
    known = np.isfinite(rank)
    length = known.sum(axis=1)
    early = known & (np.arange(rank.shape[1]) < first)
    longer = length > first
    total = np.nansum(kl, axis=1)
    beginning = np.nansum(np.where(early, kl, 0.0), axis=1)
    divides = longer & (total > 0)
    table: pd.DataFrame = pd.DataFrame(
        {
            "id": shift["prompt"].values.astype(str),
            "group": shift["group"].values.astype(str),
            "length": length,
            "unshifted": _share(rank == 1, known),
            "marginal": _share((rank > 1) & (rank <= MARGINAL), known),
            "shifted": _share(rank > MARGINAL, known),
            "unshifted_tuned": _share(shift["rank_tuned"].values == 1, known),
            "shifted_tuned": _share(shift["rank_tuned"].values > MARGINAL, known),
            "logprob": _mean_log(shift["p_base"].values, known),
            "logprob_tuned": _mean_log(shift["p_tuned"].values, known),
            "kl": total / length,
            "kl_first": beginning / early.sum(axis=1),
            "kl_rest": _divide(total - beginning, length - first, longer),
            "first_share": _divide(beginning, total, divides),
            "first_even": _divide(np.full(length.shape, float(first)), length, longer),
        }
    )
    table.attrs.update(provenance("diff.shift_shares", first=first, **_of(shift)))
    return table


def token_shift_tests(shift: xr.Dataset, *, seed: int = 0, resamples: int = 10_000, minimum: int = 5) -> pd.DataFrame:
    """Test base against tuned, paired over prompts: statistic, group, then the columns of `itlens.diff.paired`.

    statistic: "unshifted", the share of response tokens that are the model's own first choice, "shifted", of those that
    it ranks beyond its third, and "logprob", the mean log-probability of the response (nats). Raises ResultError for
    another kind of result.
    """
    shares = shift_shares(shift)
    groups, options = groups_of(shares["group"]), {"seed": seed, "resamples": resamples, "minimum": minimum}
    tables = []
    for name in TESTED:
        tested = _tested(groups, shares[name].to_numpy(), shares[f"{name}_tuned"].to_numpy(), options)
        tested.insert(0, "statistic", name)
        tables.append(tested)
    table: pd.DataFrame = pd.concat(tables, ignore_index=True)
    table.attrs.update(provenance("diff.token_shift_tests", **_of(shift), **options))
    return table


def _tested(
    groups: Mapping[str, np.ndarray], base: np.ndarray, tuned: np.ndarray, options: Mapping[str, int]
) -> pd.DataFrame:
    """Return `paired_groups`, with Wilcoxon's p where all prompts of a group have the same difference, which no t-test
    can judge: a base that shares none of the tokens of any response is the clearest case of all."""
    table = paired_groups(groups, base, tuned, **options)
    same = ~np.isfinite(table["p_paired"]) & np.isfinite(table["ci_low"])
    table.loc[same, "p_paired"] = table.loc[same, "p_wilcoxon"]
    table["p_holm"] = np.concatenate([[np.nan], adjust(table["p_paired"][1:])])
    return table


def shift_depth(
    shift: xr.Dataset, *, first: int = FIRST, seed: int = 0, resamples: int = 10_000, minimum: int = 5
) -> pd.DataFrame:
    """Test whether the first tokens carry more of the divergence than an even spread would give them, group by group.

    Returns group, n (responses longer than `first` whose models differ), even, share (means over prompts), difference,
    ci_low, ci_high (95 % BCa bootstrap), effect_size, p_paired, p_holm (over groups), note. Raises ResultError for
    another kind of result.
    """
    shares = shift_shares(shift, first=first)
    kept = shares[np.isfinite(shares["first_share"])]
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    even, share = (kept[name].to_numpy() for name in ("first_even", "first_share"))
    tested = _tested(groups_of(kept["group"]), even, share, options)
    names = {"base_mean": "even", "tuned_mean": "share"}
    columns = ["group", "n", "even", "share", "difference", "ci_low", "ci_high", "effect_size", "p_paired", "p_holm"]
    table: pd.DataFrame = tested.rename(columns=names)[[*columns, "note"]]
    table.attrs = provenance("diff.shift_depth", first=first, **_of(shift), **options)
    return table


def shift_kinds(shift: xr.Dataset, *, seed: int = 0, resamples: int = 2000, minimum: int = 5) -> pd.DataFrame:
    """Test for each kind of token whether it is shifted more often than the other tokens of the same prompts.

    Returns kind, count (tokens), share_of_tokens, unshifted, marginal, shifted (shares over all its tokens), kl (mean,
    nats), n (prompts with this kind and others), observed and expected (share of shifted ones among its tokens, and
    among the others, means over these prompts), difference (observed - expected), ci_low, ci_high, effect_size,
    p_paired, p_holm (over the kinds). Raises ResultError for another kind of result.
    """
    _refuse_other(shift, "shift_kinds")
    return _by_label(
        shift, "kind", "diff.shift_kinds", method="holm", least=1, seed=seed, resamples=resamples, minimum=minimum
    )


def shifted_tokens(shift: xr.Dataset, *, seed: int = 0, resamples: int = 2000, minimum: int = 5) -> pd.DataFrame:
    """Rank the tokens that occur in at least `minimum` prompts by how much more often than others they are shifted.

    Returns token, then the columns of `shift_kinds` with p_bh (Benjamini-Hochberg over the tokens) in place of p_holm,
    and instead: what the base would most often have written where it is shifted. Raises ResultError for another kind of
    result.
    """
    _refuse_other(shift, "shifted_tokens")
    table = _by_label(
        shift, "token", "diff.shifted_tokens", method="fdr_bh", least=minimum, seed=seed, resamples=resamples,
        minimum=minimum,
    )  # fmt: skip
    choices = _instead(shift)
    table.insert(len(table.columns), "instead", [choices.get(token, "") for token in table["token"]])
    attrs = table.attrs
    table = table.sort_values(["difference", "count"], ascending=False, kind="stable").reset_index(drop=True)
    table.attrs.update(attrs)
    return table


def shift_places(shift: xr.Dataset, *, seed: int = 0, resamples: int = 2000, minimum: int = 5) -> xr.Dataset:
    """Average over prompts by place: unshifted, marginal, shifted (shares) and kl (nats).

    Returns them on (summary, place), place 1, 2, 3 ... as far as `minimum` prompts reach (40 at most), and, with the
    prefix relative_, on (summary, tenth): tenths of each response. summary: n (prompts), mean, ci_low, ci_high (95 %
    percentile bootstrap over prompts). Raises ResultError for another kind of result.
    """
    _refuse_other(shift, "shift_places")
    rank, kl = shift["rank"].values, shift["kl"].values
    known = np.isfinite(rank)
    values = {name: np.where(known, is_so, np.nan) for name, is_so in zip(_SHARES, _levels(rank), strict=True)}
    values["kl"] = kl
    reach = int((known.sum(axis=0) >= min(minimum, len(rank))).sum())
    count = max(1, min(_PLACES, reach))
    options = {"seed": seed, "resamples": resamples, "minimum": minimum}
    tables: dict[str, object] = {}
    for name, of_token in values.items():
        tables[name] = (("summary", "place"), _averaged(of_token[:, :count], **options))
        tables[f"relative_{name}"] = (("summary", "tenth"), _averaged(_by_tenth(of_token, known), **options))
    coords = {
        "summary": ["n", "mean", "ci_low", "ci_high"],
        "place": np.arange(1, count + 1),
        "tenth": np.arange(1, _TENTHS + 1),
    }
    prompts = {"prompts": len(rank), "tokens": int(known.sum())}
    return xr.Dataset(tables, coords=coords, attrs=provenance("diff.shift_places", **_of(shift), **prompts, **options))


def _levels(rank: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return rank == 1, (rank > 1) & (rank <= MARGINAL), rank > MARGINAL


def _by_tenth(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return means (prompt, tenth): token t of M lies in tenth floor(10 t / M), t from 0; NaN for an empty tenth."""
    length = known.sum(axis=1, keepdims=True)
    tenth = np.where(known, np.arange(values.shape[1]) * _TENTHS // np.maximum(length, 1), -1)
    means = [
        _divide(np.nansum(np.where(tenth == k, values, 0.0), axis=1), (tenth == k).sum(axis=1)) for k in range(_TENTHS)
    ]
    return np.stack(means, axis=1)


def _averaged(values: np.ndarray, *, seed: int, resamples: int, minimum: int) -> np.ndarray:
    """Return n, mean, ci_low, ci_high of columns over prompts."""
    n = np.isfinite(values).sum(axis=0)
    low, high = cell_interval(values, seed=seed, resamples=resamples)
    low, high = (np.where(n >= minimum, end, np.nan) for end in (low, high))
    return np.stack([n.astype(float), _divide(np.nansum(values, axis=0), n), low, high])


def _by_label(
    shift: xr.Dataset, name: str, call: str, *, method: str, least: int, seed: int, resamples: int, minimum: int
) -> pd.DataFrame:
    """Compare the tokens of each label with the others of the same prompts; see the module, 4."""
    rank, known = shift["rank"].values, np.isfinite(shift["rank"].values)
    names, codes = np.unique(shift[name].values[known].astype(str), return_inverse=True)
    prompts, shape = np.nonzero(known)[0], (len(rank), names.size)

    def sums(values: np.ndarray) -> np.ndarray:
        out = np.zeros(shape)
        np.add.at(out, (prompts, codes), values[known].astype(float))
        return out

    count, shifted = sums(known), sums(rank > MARGINAL)
    listed = np.flatnonzero((count > 0).sum(axis=0) >= least)
    others = known.sum(axis=1)[:, None] - count
    other_shifted = shifted.sum(axis=1)[:, None] - shifted
    both = (count > 0) & (others > 0)
    observed, expected = _divide(shifted, count, both), _divide(other_shifted, others, both)
    tested = paired_cells(expected[:, listed], observed[:, listed], seed=seed, resamples=resamples, minimum=minimum)
    _test_same_differences(tested, observed[:, listed] - expected[:, listed], minimum)
    totals = count.sum(axis=0)
    rows = {
        name: names[listed].astype(object),
        "count": totals[listed].astype(int),
        "share_of_tokens": totals[listed] / max(1, int(known.sum())),
        **{
            share: (sums(is_so).sum(axis=0) / np.maximum(totals, 1))[listed]
            for share, is_so in zip(_SHARES, _levels(rank), strict=True)
        },
        "kl": (sums(np.nan_to_num(shift["kl"].values)).sum(axis=0) / np.maximum(totals, 1))[listed],
        "observed": tested["tuned_mean"],
        "expected": tested["base_mean"],
        **{measure: tested[measure] for measure in _COUNTED},
    }
    table: pd.DataFrame = pd.DataFrame(rows).astype({"n": int})
    holm = method == "holm"
    table["p_holm" if holm else "p_bh"] = adjust(table["p_paired"].to_numpy(float), "holm" if holm else "fdr_bh")
    table.attrs.update(provenance(call, **_of(shift), seed=seed, resamples=resamples, minimum=minimum))
    return table


def _test_same_differences(tested: dict[str, np.ndarray], differences: np.ndarray, minimum: int) -> None:
    """Fill in Wilcoxon's p where every prompt has the same difference, which no t-test can judge: a token that is
    shifted always, among others that never are, is the clearest case of all."""
    for place in np.flatnonzero(~np.isfinite(tested["p_paired"]) & (tested["n"] >= minimum)):
        of_prompts = differences[:, place]
        tested["p_paired"][place] = wilcoxon(of_prompts[np.isfinite(of_prompts)])[1]


def _instead(shift: xr.Dataset) -> dict[str, str]:
    """Return for each token what the base's first choice most often is where the token is shifted."""
    shifted = shift["rank"].values > MARGINAL
    pairs = zip(shift["token"].values[shifted], shift["base_top"].values[shifted][:, 0], strict=True)
    found: dict[str, Counter[str]] = {}
    for token, choice in pairs:
        found.setdefault(str(token), Counter())[str(choice)] += 1
    return {token: choices.most_common(1)[0][0] for token, choices in found.items()}


def _share(is_so: np.ndarray, known: np.ndarray) -> np.ndarray:
    return _divide((is_so & known).sum(axis=1), known.sum(axis=1))


def _mean_log(p: np.ndarray, known: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        logs = np.where(known, np.log(np.maximum(p, np.finfo(float).tiny)), 0.0)
    return _divide(logs.sum(axis=1), known.sum(axis=1))


def _divide(top: np.ndarray, bottom: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    usable = bottom > 0 if where is None else where & (bottom > 0)
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=usable), dtype=float)


def _of(shift: xr.Dataset) -> Mapping[str, object]:
    same = ("base_model", "tuned_model", "responses", "vocabulary")
    return {name: shift.attrs[name] for name in same if name in shift.attrs}


def _refuse_other(shift: object, call: str) -> None:
    if not isinstance(shift, xr.Dataset) or shift.attrs.get("probe") != "token_shift":
        got = "another kind of result" if isinstance(shift, xr.Dataset) else f"a {type(shift).__name__}"
        raise ResultError(f"{call} takes a Dataset of itlens.token_shift; got {got}.")
