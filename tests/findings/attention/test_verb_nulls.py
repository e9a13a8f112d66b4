"""The nulls of finding 2: exact on small cases, right about what was planted, and silent about noise."""

from __future__ import annotations

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from scipy import stats

from itlens.diff import pairs_verdict, word_pairs
from itlens.findings.attention.diff_pairs import read_pair_tables
from itlens.findings.attention.diff_verbs import swap_dimensions, swap_heads, verb_lookup, verb_strata
from itlens.stats.grouping import label_chance, random_sets, set_null
from itlens.stats.paired import bootstrap_difference, cohen_d, p_text
from tests.diff.word_tables import random_word_table, word_table

pytestmark = pytest.mark.filterwarnings("error")

INSTRUCTION = tuple(f"tell{i}" for i in range(12))
GENERAL = tuple(f"move{i}" for i in range(60))
OTHERS = tuple(f"thing{i}" for i in range(80))
VOCABULARY = (*INSTRUCTION, *GENERAL, *OTHERS)
LISTS = {"verbs": INSTRUCTION, "general": GENERAL}


def test_set_null_by_enumeration():
    # two of five verbs in one stratum, one of three in the other: 10 x 3 = 30 sets
    values = np.array([3.0, 1, 0, -1, 2, 5, 0, 1])
    instruction = np.array([1, 1, 0, 0, 0, 1, 0, 0], bool)
    strata = np.array([0] * 5 + [1] * 3)
    sums = [values[list(a)].sum() + values[b] for a in combinations(range(5), 2) for b in (5, 6, 7)]
    null = set_null(values[:, None], instruction, strata, draws=20_000, shown=20_000, seed=1)
    assert null.expected[0] == pytest.approx(np.mean(sums)) and null.sd[0] == pytest.approx(np.std(sums))
    exact = np.mean(np.abs(np.array(sums) - np.mean(sums)) >= abs(9 - np.mean(sums)) - 1e-9)
    assert null.p[0] == pytest.approx(exact, abs=0.01)
    assert (null.low[0], null.high[0]) == (min(sums), max(sums))  # each in one of 30
    np.testing.assert_allclose(label_chance(instruction, strata), [0.4] * 5 + [1 / 3] * 3)
    blocks = list(random_sets(instruction, strata, 2500, seed=0))
    assert [len(b) for b in blocks] == [1000, 1000, 500]
    assert all((b[:, :5].sum(axis=1) == 2).all() and (b[:, 5:].sum(axis=1) == 1).all() for b in blocks)


def test_nothing_to_shuffle():
    values = np.array([[1.0], [2.0], [5.0]])
    for instruction, strata in (([1, 1, 1], [0, 0, 0]), ([1, 0, 0], [0, 1, 1])):
        null = set_null(values, np.array(instruction, bool), np.array(strata), draws=50, shown=50, seed=0)
        assert null.p[0] == 1 and null.sd[0] == 0


def test_strata():
    verbs, instruction = (*INSTRUCTION, *GENERAL), np.arange(72) < 12
    strata = verb_strata(verbs, instruction, np.arange(72.0) % 12)  # no frequency is known: split by activity alone
    assert len(set(strata)) == 2
    assert [(strata[:12] == s).sum() for s in sorted(set(strata))] == [6, 6]
    assert (strata == strata[np.arange(72) % 12]).all()
    from itlens.vocabulary.verbs import general_verbs, instruction_verbs, verb_frequencies

    known = (*instruction_verbs(), *general_verbs())
    asked = np.arange(len(known)) < 38
    strata = verb_strata(known, asked, np.zeros(len(known)))
    frequency = np.array([verb_frequencies()[verb] for verb in known])
    bins = [frequency[strata == s] for s in sorted(set(strata))]
    assert len(bins) == 4 and all(low.max() <= high.min() for low, high in pairwise(bins))
    assert all(8 <= (strata[asked] == s).sum() <= 11 for s in set(strata))


def test_swapping_heads_by_enumeration():
    parts = np.array([1.0, 2, 0.5, 3, -0.25])
    sums = [abs(np.dot(signs, parts)) for signs in product((-1, 1), repeat=5)]
    exact = np.mean(np.array(sums) >= parts.sum() - 1e-9)
    assert swap_heads(parts, draws=20_000, seed=0) == pytest.approx(exact, abs=0.01)
    assert swap_heads(np.zeros(4), draws=10, seed=0) == 1


def test_swapping_dimensions_by_enumeration():
    rng = np.random.default_rng(0)
    base, tuned = (random_word_table(s, layers=(0,), heads=(0,), dims=5, pairs=14) for s in (1, 2))
    verbs, general = ["write", "explain", "describe"], ["run", "eat", "walk"]
    tables = read_pair_tables(base, tuned)
    lookup = verb_lookup(tables, verbs, general)
    weights = rng.normal(size=6)

    def statistic(first, second):
        total = 0.0
        for table, sign in ((first, -1), (second, 1)):
            dims = {}
            for d, pairs in enumerate(table):
                for pair in pairs:
                    dims.setdefault(pair, set()).add(d)
            for pair, there in dims.items():
                held = set(pair) & {*verbs, *general}
                total += sign * (len(there) >= 2) * sum(weights[[*verbs, *general].index(v)] for v in held)
        return total

    sides = [
        [{frozenset((r.query.lower(), r.key.lower())) for r in t[t["dim"] == d].itertuples()} for d in range(5)]
        for t in (base, tuned)
    ]
    observed = statistic(*sides)
    null = []
    for swap in product((0, 1), repeat=5):
        first = [sides[s][d] for d, s in enumerate(swap)]
        second = [sides[1 - s][d] for d, s in enumerate(swap)]
        null.append(abs(statistic(first, second)))
    exact = np.mean(np.array(null) >= abs(observed) - 1e-9)
    options = {"min_dims": 2, "fine": np.array([True]), "fine_draws": 8000, "seed": 0, "chosen": np.array([True])}
    assert swap_dimensions(tables, lookup, weights, draws=8000, **options)[0] == pytest.approx(exact, abs=0.02)
    assert 0.05 < exact < 1


def chance(seed):
    """Heavy-tailed: how often a word is drawn; instruction verbs three times as often as other words."""
    weight = 1 / np.arange(1, len(VOCABULARY) + 1) ** 0.5
    weight = np.random.default_rng(seed).permutation(weight)
    weight[: len(INSTRUCTION)] *= 3
    return weight


def noise(seed, **grid):
    weights = chance(seed)
    options = {"words": VOCABULARY, "weights": weights, "dims": 16, "pairs": 40, **grid}
    return random_word_table(2 * seed, **options), random_word_table(2 * seed + 1, model="tuned", **options)


def planted(table, heads, verbs, seed=0, sources=10):
    """The same table; in some heads each verb is also paired with `sources` things, each in two dimensions."""
    rng = np.random.default_rng(seed)
    columns = ["layer", "head", "dim", "query", "key", "relatedness"]
    rows = table.drop_duplicates(["layer", "head", "dim", "query", "key"])[columns].values.tolist()
    for layer, head in heads:
        for verb in verbs:
            for word in rng.choice(OTHERS, sources, replace=False):
                rows += [(layer, head, int(dim), verb, word, 0.9) for dim in rng.choice(16, 2, replace=False)]
    attrs = table.attrs
    return word_table(rows, words=VOCABULARY, layers=attrs["layers"], heads=attrs["heads"], model="tuned", d_head=16)


def test_planted_heads_are_found_and_no_others():
    grid = {"layers": (0, 1, 2, 3), "heads": (0, 1, 2)}
    base, tuned = noise(5, **grid)
    heads = [(0, 1), (2, 2), (3, 0)]
    ds = word_pairs(base, planted(tuned, heads, INSTRUCTION), **LISTS)
    found = [(int(layer), int(head)) for layer, head in np.argwhere(ds["instruction_p_bh"].values < 0.05)]
    assert found == heads
    at = ds.sel(layer=2, head=2)
    assert at["instruction_change"] > at["instruction_high"] > at["instruction_expected"] > at["instruction_low"]
    assert at["instruction_effect"] > 4 and at["instruction_p"] >= at["instruction_p_swap"]
    assert "3 of 12 heads change significantly: 3 with more (Benjamini-Hochberg)." in pairs_verdict(ds)
    # all verbs raised alike is no finding about instruction verbs
    alike = word_pairs(base, planted(tuned, heads, (*INSTRUCTION, *GENERAL)), **LISTS)
    assert not (alike["instruction_p_bh"] < 0.05).any()


def test_a_planted_direction_in_all_heads():
    grid = {"layers": (0, 1, 2, 3), "heads": (0, 1, 2)}
    base, tuned = noise(6, **grid)
    every = [(layer, head) for layer in range(4) for head in range(3)]
    more = planted(tuned, every, INSTRUCTION, sources=4)
    ds = word_pairs(base, more, **LISTS)
    row = ds.sel(group="all")
    assert row["p_null"] < 0.01 and row["p_welch"] < 0.01 and row["difference"] > row["null_high"]
    assert row["ci_low"] > 0 and row["effect_size"] > 0.8
    share = ds["share"].sel(group="all")
    first, second = (share.values[(ds["kind"] == kind).values] for kind in ("instruction", "general"))
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    assert float(row["difference"]) == pytest.approx(first.mean() - second.mean())
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert (float(row["t_welch"]), float(row["p_welch"])) == pytest.approx((expected.statistic, expected.pvalue))
    assert pairs_verdict(ds).startswith("Tuned heads relate more words to instruction verbs")
    back = word_pairs(more.pipe(lambda t: t), base, **LISTS)
    assert pairs_verdict(back).startswith("Tuned heads relate fewer words to instruction verbs")
    np.testing.assert_array_equal(back["instruction_change"], -ds["instruction_change"])
    assert word_pairs(base, more, **LISTS).identical(ds)


@pytest.mark.long
def test_noise_gives_false_discoveries_in_at_most_five_percent():
    """Independent draws of both models with heavy-tailed words. Judged with the binomial error of 60 repetitions."""
    runs = [word_pairs(*noise(seed, layers=(0, 1), heads=(0, 1, 2)), **LISTS, draws=300) for seed in range(60)]
    assert sum(bool((ds["instruction_p_bh"] < 0.05).any()) for ds in runs) <= stats.binom.ppf(0.99, 60, 0.05)
    each = np.concatenate([ds["instruction_p"].values.ravel() for ds in runs])
    assert (each <= 0.05).sum() <= stats.binom.ppf(0.99, each.size, 0.05)
    over_all = [float(ds["p_null"].sel(group="all")) for ds in runs]
    assert np.isfinite(over_all).all() and np.mean(np.array(over_all) <= 0.05) <= stats.binom.ppf(0.99, 60, 0.05) / 60
    assert max(over_all) > 0.5
    assert sum(pairs_verdict(ds).startswith("No significant change: ") for ds in runs) >= 54


@pytest.mark.long
def test_noise_that_moves_related_verbs_together():
    """Dimensions that come and go as wholes: each holds either instruction verbs or others, twice as strong a test."""

    def clustered(seed):
        rng = np.random.default_rng(seed)
        rows = []
        for head, dim in product(range(6), range(16)):
            verbs = INSTRUCTION if rng.random() < 0.2 else GENERAL
            hub = VOCABULARY[-1 - int(rng.integers(4))]
            rows += [(0, head, dim, verb, hub) for verb in rng.choice(verbs, 10, replace=False)]
        return word_table(rows, words=VOCABULARY, heads=range(6))

    runs = [word_pairs(clustered(2 * s), clustered(2 * s + 1), **LISTS, draws=300) for s in range(40)]
    sets = [bool((ds["instruction_p_sets"] < 0.05 / 6).any()) for ds in runs]
    assert np.mean(sets) > 0.15, "random verb sets alone would be wrong about related verbs"
    assert sum(bool((ds["instruction_p_bh"] < 0.05).any()) for ds in runs) <= stats.binom.ppf(0.99, 40, 0.05)


def test_statistics_of_two_samples():
    x, y = np.array([1.0, 2, 3, 6]), np.array([0.0, 1, 2])
    pooled = np.sqrt((3 * x.var(ddof=1) + 2 * y.var(ddof=1)) / 5)
    assert cohen_d(x, y) == pytest.approx(2 / pooled)
    assert cohen_d(np.ones(3), np.ones(2)) == 0 and np.isnan(cohen_d(np.ones(3), np.zeros(3)))
    assert np.isnan(cohen_d(x, y[:1]))
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 80), rng.normal(0, 2, 60)
    low, high = bootstrap_difference(a, b, seed=1, resamples=4000)
    half = stats.norm.ppf(0.975) * np.sqrt(a.var(ddof=1) / 80 + b.var(ddof=1) / 60)
    assert (low, high) == pytest.approx((a.mean() - b.mean() - half, a.mean() - b.mean() + half), abs=0.06)
    assert bootstrap_difference(np.ones(3), np.zeros(3)) == (1, 1) and np.isnan(bootstrap_difference(a, b[:1])).all()
    assert (p_text(np.nan), p_text(1e-6), p_text(0.0123)) == ("no p-value", "p < 0.001", "p = 0.012")
