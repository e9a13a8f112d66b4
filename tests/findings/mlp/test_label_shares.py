"""Shares of tasks and levels: by hand, against loops, and what they say when nothing or something was planted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from itlens.diff import concept_shares, concepts, concepts_verdict
from itlens.errors import ResultError
from tests.findings.mlp.concept_tables import concept_table, random_bases, turned

TASKS = ("daily", "coding")


def labels(rows: Sequence[tuple], *, seeds: Sequence[int] = (0,), **attrs) -> pd.DataFrame:
    """Labels from rows (layer, component, tasks, level, known[, seed]); without a seed, one for each of `seeds`."""
    full = [(*row, seed) if len(row) == 5 else row for row in rows for seed in (seeds if len(row) == 5 else (0,))]
    table = pd.DataFrame(full, columns=["layer", "component", "tasks", "level", "known", "seed"])
    for task in TASKS:
        table[f"task_{task}"] = [task in tasks for tasks in table["tasks"]]
    table = table.drop(columns="tasks").assign(pole="", description="", confidence=0.5, labeller="hand")
    table.attrs = {"model": "base", "vectors": "value", "n_layers": 4, **attrs}
    return table


def drawn(seed: int, chance: float, *, layers: int = 4, components: int = 40, seeds: Sequence[int] = (0,)):
    """Random labels: coding with that chance, daily with 0.2, nine of ten known."""
    rng = np.random.default_rng(seed)
    rows = []
    for layer in range(layers):
        for component in range(components):
            for number in seeds:
                known = rng.random() < 0.9
                tasks = [task for task, p in zip(TASKS, (0.2, chance), strict=True) if known and rng.random() < p]
                rows.append((layer, component, tasks, "semantics" if known else "", bool(known), number))
    return labels(rows)


def row(table: pd.DataFrame, category: str, kind: str = "task", group: str = "all") -> pd.Series:
    found = table[(table["group"] == group) & (table["kind"] == kind) & (table["category"] == category)]
    assert len(found) == 1
    return found.iloc[0]


HAND = [
    (0, 0, ("daily",), "semantics", True),
    (0, 1, ("daily", "coding"), "syntax", True),
    (0, 2, (), "", True),
    (1, 0, (), "", False),
    (1, 1, ("coding",), "syntax", True),
    (1, 2, (), "morphology", True),
]


def test_shares_by_hand() -> None:
    table = concept_shares(labels(HAND), labels(HAND), resamples=20)
    found = table[table["group"] == "all"].set_index(["kind", "category"])["base"]
    expected = {("task", "daily"): 2, ("task", "coding"): 2, ("task", "any"): 3, ("task", "none"): 2}
    expected |= {("level", "semantics"): 1, ("level", "syntax"): 2, ("level", "morphology"): 1}
    expected |= {("level", "phonology"): 0, ("level", "none"): 1}
    for key, number in expected.items():
        assert found[key] == pytest.approx(number / 5), key
    assert found["known", "known"] == pytest.approx(5 / 6) and len(found) == len(expected) + 1
    whole = concept_shares(labels(HAND), labels(HAND), of="all", resamples=20)
    assert row(whole, "daily")["base"] == pytest.approx(2 / 6) and row(whole, "daily")["base_concepts"] == 6
    first = row(table, "daily", group="layer 0")
    assert first["base"] == pytest.approx(2 / 3) and first["note"].startswith("too few") and np.isnan(first["p"])


def test_identical_models_differ_in_nothing() -> None:
    table = drawn(0, 0.3)
    found = concept_shares(table, table, resamples=200)
    assert (found["difference"] == 0).all() and (found["p"] == 1).all() and (found["p_holm"] == 1).all()
    assert (found["ci_low"] <= 0).all() and (found["ci_high"] >= 0).all()
    assert found["t_seeds"].isna().all() and "no seeds to test over" in found.attrs["seed_note"]


def test_a_planted_share_is_found_and_only_that() -> None:
    found = concept_shares(drawn(11, 0.1), drawn(12, 0.4), resamples=500)
    coding = row(found, "coding")
    assert coding["p_holm"] < 0.01 and coding["ci_low"] > 0.1 and coding["ci_high"] < 0.5
    assert row(found, "daily")["p_holm"] > 0.05 and row(found, "known", "known")["p"] > 0.05
    assert coding["p_holm"] == pytest.approx(min(1, 2 * coding["p"]))  # the smaller of two
    assert row(found, "any")["p_holm"] == row(found, "any")["p"]
    again = concept_shares(drawn(11, 0.1), drawn(12, 0.4), resamples=500)
    pd.testing.assert_frame_equal(found, again)


def test_the_permutation_p_is_that_of_fishers_exact_test_in_one_layer() -> None:
    """Within one layer, hands changed at random are the hypergeometric null."""
    table = [drawn(seed, chance, layers=1, components=30) for seed, chance in ((3, 0.15), (4, 0.4))]
    table = [part.assign(known=True) for part in table]
    found = row(concept_shares(*table, resamples=20_000), "coding")
    counts = [int(part["task_coding"].sum()) for part in table]
    null = stats.hypergeom(60, sum(counts), 30)
    drawn_counts = np.arange(sum(counts) + 1)
    far = np.abs(2 * drawn_counts - sum(counts)) >= abs(counts[1] - counts[0])
    assert found["p"] == pytest.approx(null.pmf(drawn_counts)[far].sum(), abs=0.01)


def test_the_interval_is_that_of_resampling_within_layers() -> None:
    one, other = drawn(5, 0.2, layers=2, components=60), drawn(6, 0.5, layers=2, components=60)
    found = row(concept_shares(one, other, resamples=4000), "coding")
    rng = np.random.default_rng(1)
    shares = []
    for table in (one, other):
        counted = np.zeros((2, 2000))
        for _, part in table.groupby("layer"):
            drawn_rows = rng.integers(0, len(part), (2000, len(part)))
            counted += [part[name].to_numpy()[drawn_rows].sum(axis=1) for name in ("task_coding", "known")]
        shares.append(counted[0] / counted[1])
    differences = shares[1] - shares[0]
    np.testing.assert_allclose([found["ci_low"], found["ci_high"]], np.quantile(differences, [0.025, 0.975]), atol=0.02)


def test_seeds_widen_the_interval_and_give_the_papers_test() -> None:
    seeds = (0, 1, 2, 3, 4)
    one, other = drawn(7, 0.2, seeds=seeds), drawn(8, 0.4, seeds=seeds)
    found = concept_shares(one, other, resamples=300)
    shares = [
        [part["task_coding"].sum() / part["known"].sum() for _, part in table.groupby("seed")] for table in (one, other)
    ]
    test = stats.ttest_ind(shares[1], shares[0], equal_var=False)
    coding = row(found, "coding")
    assert coding["t_seeds"] == pytest.approx(test.statistic) and coding["p_seeds"] == pytest.approx(test.pvalue)
    assert coding["base_std"] == pytest.approx(np.std(shares[0], ddof=1)) and found.attrs["seeds"] == 5
    # a labeller whose seeds disagree about everything: concepts alone would be certain
    split = [(0, i, ("coding",) if seed < 2 else (), "", True, seed) for i in range(40) for seed in (0, 1, 2, 3)]
    wide = row(concept_shares(labels(split), labels(split), resamples=500), "coding")
    assert wide["ci_low"] < -0.3 and wide["ci_high"] > 0.3


def test_groups_of_layers() -> None:
    table = drawn(0, 0.3)
    found = concept_shares(table, drawn(1, 0.3), groups={"early": [0, 1], "late": (2, 3)}, resamples=50)
    assert found["group"].unique().tolist() == ["all", "early", "late"]
    early = table[table["layer"] < 2]
    assert row(found, "daily", group="early")["base"] == pytest.approx(early["task_daily"].sum() / early["known"].sum())
    quarters = concept_shares(table, table, resamples=10)["group"].unique().tolist()
    assert quarters == ["all", "layer 0", "layer 1", "layer 2", "layer 3"]


def test_a_model_whose_concepts_nobody_could_label() -> None:
    none = drawn(0, 0.3)
    none = none.assign(known=False, level="", task_daily=False, task_coding=False)
    found = concept_shares(none, drawn(1, 0.3), resamples=50)
    assert np.isnan(row(found, "daily")["base"]) and np.isnan(row(found, "daily")["p"])
    assert row(found, "known", "known")["p"] < 0.05


BAD = [
    (lambda t: t.attrs, "tuned_labels is a dict: give the DataFrame"),
    (lambda t: t.drop(columns="level"), r"no table of labels \(no column level\)"),
    (lambda t: t.drop(columns=["task_daily", "task_coding"]), r"no column task_\.\.\."),
    (lambda t: t.iloc[:0], "tuned_labels holds no labels"),
    (lambda t: t.assign(level="poetics"), "holds the level 'poetics'; expected phonology"),
    (lambda t: t.assign(labeller=["a", *["b"] * (len(t) - 1)]), "mixes the labels of several labellers"),
    (lambda t: t.assign(labeller="chat"), "differ in labeller: base hand, tuned chat"),
    (lambda t: t.assign(seed=3), "differ in seed: base 0, tuned 3"),
    (lambda t: t[t["layer"] > 0], "differ in layer: base 0, 1, 2, 3, tuned 1, 2, 3"),
    (lambda t: t[t["component"] < 20], "differ in component"),
    (lambda t: t.assign(pole="+"), "differ in poles"),
    (lambda t: t.assign(task_translation=False), "differ in tasks: base daily, coding, tuned daily, coding, transl"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_labels_that_cannot_be_compared(spoil, message) -> None:
    with pytest.raises(ResultError, match=message):
        concept_shares(drawn(0, 0.3), spoil(drawn(1, 0.3)), resamples=10)


def test_incomplete_labels_and_other_sides() -> None:
    table = drawn(0, 0.3, seeds=(0, 1))
    with pytest.raises(ResultError, match="tuned_labels: component 3 of layer 0 has 1 labels for 2 seeds"):
        concept_shares(table, table.drop(index=6), resamples=10)
    with pytest.raises(ResultError, match="has 2 labels for 1 seeds"):
        concept_shares(labels(HAND * 2), labels(HAND * 2), resamples=10)
    with pytest.raises(ResultError, match="differ in kind of vectors: base value, tuned key"):
        concept_shares(labels(HAND), labels(HAND, vectors="key"), resamples=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "some"}, "of='some': expected 'known' or 'all'"),
        ({"resamples": 0}, "resamples=0"),
        ({"groups": {"late": [9]}}, "'late' holds no labelled layer; labelled are 0 to 3"),
        ({"groups": {}}, "expected names with their layers"),
        ({"groups": [0, 1]}, "expected names with their layers"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(ResultError, match=message):
        concept_shares(drawn(0, 0.3), drawn(1, 0.3), **options)


@pytest.fixture(scope="module")
def rotations() -> dict[str, object]:
    bases = random_bases(0)
    floor = np.full((3, 2, 99), 0.99)
    base = concept_table(bases, floor=floor, ks=(4, 12))
    tuned = concept_table(turned(bases, 1, 2, 20, 0.6), floor=floor, ks=(4, 12))
    slight = concept_table(turned(bases, 1, 2, 20, 0.05), floor=floor, ks=(4, 12))
    plain = [ds.drop_vars(["floor", "floor_angle"]) for ds in (base, tuned)]
    other = concept_table(random_bases(9))
    pairs = {"moved": (base, tuned), "same": (base, base), "slight": (base, slight), "plain": plain}
    pairs["random"] = (plain[0], other)
    pairs["few"] = tuple(ds.isel(draw=slice(4)) for ds in (base, tuned))
    return {name: concepts(*pair, ks=(4, 12)) for name, pair in pairs.items()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "moved",
            "Significant rotation: 1 of 3 layers rotated more than resampled rows of one model (0.0 expected by "
            "chance, p = 0.030): the spans of",
        ),
        ("same", "No rotation: the value subspaces of base and tuned model are the same (3 layers, k = 4, 12"),
        (
            "few",
            "No significant rotation: 1 of 3 layers rotated more than resampled rows of one model (0.6 expected",
        ),
        ("slight", "No significant rotation: no layer of 3 rotated more than resampled rows"),
        ("plain", "Not tested whether they rotated more than row noise (no resampled rows"),
        ("random", "no more alike than random ones"),
    ],
)
def test_the_verdict_on_rotation(rotations, name: str, said: str) -> None:
    assert said in concepts_verdict(rotations[name])


@pytest.mark.parametrize(
    ("name", "chances", "said"),
    [
        ("moved", (0.1, 0.5), "Significant rotation toward user tasks: of the labelled concepts, "),
        ("moved", (0.5, 0.1), "Significantly fewer concepts serve user tasks: of the labelled concepts, "),
        ("moved", (0.3, 0.3), "No significant rotation toward user tasks: "),
        ("few", (0.1, 0.5), "More concepts serve user tasks, but without a significant rotation"),
        ("slight", (0.1, 0.5), "More concepts serve user tasks, but without a significant rotation"),
        ("same", (0.1, 0.5), "More concepts serve user tasks, but without a significant rotation"),
        ("plain", (0.1, 0.5), "More concepts serve user tasks; not tested whether by a rotation (no resampled rows)"),
    ],
)
def test_the_verdict_on_user_tasks(rotations, name: str, chances: tuple[float, float], said: str) -> None:
    shares = concept_shares(drawn(1, chances[0]), drawn(4, chances[1]), resamples=300)
    text = concepts_verdict(rotations[name], shares)
    assert said in text
    single = (
        "coding rose from" if chances[1] > chances[0] else "coding fell" if chances[1] < chances[0] else "No single"
    )
    assert single in text


def test_two_empty_shares_are_no_evidence(rotations) -> None:
    one, other = ([(0, place, (), "syntax", place < count) for place in range(40)] for count in (30, 40))
    text = concepts_verdict(rotations["moved"], concept_shares(labels(one), labels(other), resamples=20))
    assert "was not tested: none of 30 and 40 labelled concepts serves a user task in either model. No single" in text


def test_the_verdict_names_numbers_flags_and_what_it_was_not_given(rotations) -> None:
    ds = rotations["moved"]
    assert "least in layer 1 (0.920)" in concepts_verdict(ds, k=4)  # 1 - sin(0.6)^2 / 4
    assert "In 3 of 3 layers the spectrum has no gap" in concepts_verdict(ds.assign(degenerate=ds["degenerate"] | True))
    few = concept_shares(labels(HAND[:4]), labels(HAND[:4]), resamples=10)
    assert "Rotation toward user tasks was not tested: too few concepts" in concepts_verdict(ds, few)
    with pytest.raises(ResultError, match="k=5 was not compared; there are 4, 12"):
        concepts_verdict(ds, k=5)
    with pytest.raises(ResultError, match=r"takes the Dataset of itlens\.diff\.concepts"):
        concepts_verdict(few)
    with pytest.raises(ResultError, match="no result of itlens"):
        concepts_verdict(ds, few.drop(columns="p_holm"))
