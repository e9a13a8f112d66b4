"""Word pairs of two models: counts by hand and by loops, alignment by text, identical and empty tables."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest

import itlens
from itlens.diff import moved_heads, pair_changes, pairs_verdict, verb_changes, word_pairs
from tests.diff.word_tables import FAST, hand, random_word_table, word_table

pytestmark = pytest.mark.filterwarnings("error")


def test_counts_by_hand():
    ds = word_pairs(*hand(), **FAST)
    head = {name: ds[name].values[0] for name in ds.data_vars if ds[name].dims == ("layer", "head")}
    # base: write-story, run-walk, Write-poem, poem-write; tuned: write-story, story-write, Write-poem, poem-write,
    # write-Write
    assert head["base_pairs"].tolist() == [4, 1] and head["tuned_pairs"].tolist() == [5, 0]
    assert head["kept"].tolist() == [3, 0]
    assert head["gained"].tolist() == [2, 0] and head["lost"].tolist() == [1, 1]
    assert head["overlap"].tolist() == [3 / 6, 0]
    # repeated in base: story-write (dims 0 and 1); poem-write stands twice in dimension 3, which is one dimension.
    # repeated in tuned: story-write (0, 2), poem-write (2, 5), write-write (1, 4), in which write counts once
    assert head["instruction_change"].tolist() == [3 - 1, 0]
    assert head["base_instruction_share"][0] == 1 / 2 and head["tuned_instruction_share"][0] == 3 / 5
    assert np.isnan(head["base_instruction_share"][1])
    assert ds["verb"].values.tolist() == ["write"] and ds["kind"].values.tolist() == ["instruction"]
    assert ds["raised"].sel(group="all", verb="write") == 1 and ds["share"].sel(group="all", verb="write") == 1
    once = word_pairs(*hand(), **FAST, min_dims=1)  # run and walk count as well, and poem-write in base
    assert once["instruction_change"].values.tolist() == [[3 - 2, 0]]
    assert once["lowered"].sel(group="all", verb="run") == 1


def test_changes_by_hand():
    table = pair_changes(*hand())
    assert table.attrs["probe"] == "diff.pair_changes" and table.attrs["tuned_model"] == "tuned"
    rows = table[table["head"] == 0].set_index(["query", "key"])
    row = rows.loc[("write", "story")]
    assert (row["change"], row["base_dims"], row["tuned_dims"]) == ("kept", 2, 1)
    assert (row["base_energy"], row["tuned_energy"]) == (2 * 3 - 1, 4)
    assert rows.loc[("story", "write"), "change"] == "gained" and rows.loc[("story", "write"), "base_energy"] == 0
    assert rows.loc[("run", "walk"), "change"] == "lost" and rows.loc[("run", "walk"), "tuned_dims"] == 0
    # gained: story-write 0.9 x 1, write-Write 0.4 x 2
    gained = table[table["change"] == "gained"]
    assert gained["rank"].tolist() == [1, 2]
    assert list(zip(gained["query"], gained["key"], strict=True)) == [("story", "write"), ("write", "Write")]
    assert (pair_changes(*hand(), heads=1)["query"] == "a=b").all() and len(pair_changes(*hand(), layers=0)) == 7


def slow_counts(table, words, cell):
    """Counts of `words` in the repeated pairs of one head, in plain loops."""
    part = table[(table["layer"] == cell[0]) & (table["head"] == cell[1])]
    dims = defaultdict(set)
    for row in part.itertuples():
        dims[frozenset((row.query.lower(), row.key.lower()))].add(row.dim)
    repeated = [pair for pair, there in dims.items() if len(there) >= 2]
    held = Counter(word for pair in repeated for word in pair)
    share = sum(held[verb] for verb in FAST["verbs"]) / sum(held.values()) if held else np.nan
    return [held[word] for word in words], share


@pytest.mark.parametrize("seed", range(4))
def test_loops_agree(seed):
    base, tuned = random_word_table(seed, pairs=20), random_word_table(seed + 100, pairs=25, model="tuned")
    ds = word_pairs(base, tuned, **FAST)
    verbs = ds["verb"].values.tolist()
    changes = pair_changes(base, tuned).set_index(["layer", "head"])
    rises, falls = Counter(), Counter()
    for cell in [(layer, head) for layer in (0, 1) for head in (0, 1)]:
        at = ds.sel(layer=cell[0], head=cell[1])
        sets = [{(r.query, r.key) for r in t.itertuples() if (r.layer, r.head) == cell} for t in (base, tuned)]
        assert [int(at[n]) for n in ("kept", "gained", "lost")] == [
            len(sets[0] & sets[1]), len(sets[1] - sets[0]), len(sets[0] - sets[1])
        ]  # fmt: skip
        assert float(at["overlap"]) == len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        (b, b_share), (t, t_share) = (slow_counts(table, verbs, cell) for table in (base, tuned))
        np.testing.assert_allclose([at["base_instruction_share"], at["tuned_instruction_share"]], [b_share, t_share])
        instruction = [verb in FAST["verbs"] for verb in verbs]
        assert int(at["instruction_change"]) == int(np.subtract(t, b)[instruction].sum())
        rises.update(v for v, x, y in zip(verbs, b, t, strict=True) if y > x)
        falls.update(v for v, x, y in zip(verbs, b, t, strict=True) if y < x)
        for kind, pairs in (("kept", sets[0] & sets[1]), ("gained", sets[1] - sets[0]), ("lost", sets[0] - sets[1])):
            listed = changes.loc[cell]
            listed = listed[listed["change"] == kind]
            assert set(zip(listed["query"], listed["key"], strict=True)) == pairs
            weight = listed["relatedness"] * listed[["base_energy", "tuned_energy"]].abs().max(axis=1)
            assert (np.diff(weight) <= 1e-6).all() and listed["rank"].tolist() == list(range(1, len(listed) + 1))
    np.testing.assert_array_equal(ds["raised"].sel(group="all"), [rises[v] for v in verbs])
    np.testing.assert_array_equal(ds["lowered"].sel(group="all"), [falls[v] for v in verbs])
    for group in ("layer 0", "layer 1"):
        assert (ds["raised"].sel(group=group) <= ds["raised"].sel(group="all")).all()
    np.testing.assert_array_equal(
        ds["raised"].sel(group=["layer 0", "layer 1"]).sum("group"), ds["raised"].sel(group="all")
    )


def other_order(table):
    """The same rows: words numbered backwards, heads not in order, rows of one head as they were."""
    table = table.copy()
    for name in ("query", "key"):
        table[name] = table[name].cat.set_categories(list(reversed(table[name].cat.categories)))
    attrs = table.attrs
    table = table.sort_values(["head", "layer"], ascending=[False, True], kind="stable").reset_index(drop=True)
    table.attrs = attrs
    return table


def plain_words(table):
    return table.assign(query=table["query"].astype(object), key=table["key"].astype(object))


@pytest.mark.parametrize("change", [other_order, plain_words])
def test_words_are_matched_by_their_text(change):
    base, tuned = random_word_table(1), random_word_table(2)
    expected = word_pairs(base, tuned, **FAST)
    again = word_pairs(base, change(tuned), **FAST)
    for name in ("kept", "gained", "lost", "instruction_change", "instruction_p", "p_null"):
        np.testing.assert_array_equal(again[name], expected[name])
    columns = ["layer", "head", "query", "key", "change", "base_dims", "tuned_dims"]
    order = ["layer", "head", "query", "key"]
    tables = [
        pair_changes(base, side)[columns].astype({"query": str, "key": str}).sort_values(order).reset_index(drop=True)
        for side in (tuned, change(tuned))
    ]
    pd.testing.assert_frame_equal(*tables)


def test_tables_and_results_survive_files(tmp_path):
    base, tuned = random_word_table(1), random_word_table(2)
    read = [itlens.load(itlens.save(t, tmp_path / f"{i}.parquet")) for i, t in enumerate((base, tuned))]
    ds = word_pairs(base, tuned, **FAST)
    assert word_pairs(*read, **FAST).identical(ds)
    back = itlens.load(itlens.save(ds, tmp_path / "ds.nc"))
    np.testing.assert_array_equal(back["instruction_p_bh"], ds["instruction_p_bh"])
    assert back["verb"].values.tolist() == ds["verb"].values.tolist() and pairs_verdict(back) == pairs_verdict(ds)
    changes = pair_changes(base, tuned)
    pd.testing.assert_frame_equal(
        itlens.load(itlens.save(changes, tmp_path / "c.parquet")).astype(str), changes.astype(str)
    )
    assert {"a=b", "c|||d", "tab\there", "\N{PARTY POPPER}"} <= set(changes["query"].astype(str))


def test_identical_models(tmp_path):
    table = random_word_table(3)
    ds = word_pairs(table, table, **FAST)
    assert not ds["gained"].any() and not ds["lost"].any() and (ds["overlap"] == 1).all()
    assert (ds["instruction_p"] == 1).all() and (ds["instruction_p_bh"] == 1).all()
    assert (ds["instruction_effect"] == 0).all() and (ds["instruction_change"] == 0).all()
    assert ds["p_null"].isnull().all() and ds["p_welch"].isnull().all() and ds["difference"].isnull().all()
    assert (ds["note"] == "no verb's count changed").all()
    assert len(moved_heads(ds)) == 0 and len(verb_changes(ds)) == 0
    assert (
        pairs_verdict(ds)
        == "Base and tuned model relate the same words: none of the 4 heads gained or lost a word pair."
    )
    itlens.load(itlens.save(ds, tmp_path / "same.nc"))


def test_tables_without_pairs(tmp_path):
    ds = word_pairs(word_table([]), word_table([]), **FAST)
    assert ds["overlap"].isnull().all() and not ds["base_pairs"].any() and (ds["instruction_p"] == 1).all()
    assert pairs_verdict(ds).startswith("Not tested: neither model relates any words in the 2 heads")
    itlens.load(itlens.save(ds, tmp_path / "none.nc"))
    assert len(pair_changes(word_table([]), word_table([]))) == 0
    one = word_pairs(word_table([]), hand()[1], **FAST)
    assert one["gained"].values.tolist() == [[5, 0]] and one["overlap"].values[0, 0] == 0


def test_a_head_without_rows_and_groups_of_layers():
    rows = [(layer, 0, dim, "write", "story") for layer in (0, 3, 7, 8, 9) for dim in (0, 1)]
    attrs = {"layers": range(10), "heads": (0, 2), "n_heads": 4}
    ds = word_pairs(word_table([], **attrs), word_table(rows, **attrs), **FAST)
    assert ds["group"].values.tolist() == ["all", "layers 0-2", "layers 3-5", "layers 6-7", "layers 8-9"]
    assert ds["layer_group"].values.tolist() == [
        g for g, n in zip(ds["group"].values[1:], (3, 3, 2, 2), strict=True) for _ in range(n)
    ]
    assert ds["raised"].sel(verb="write").values.tolist() == [5, 1, 1, 1, 2]
    assert ds["heads"].values.tolist() == [20, 6, 6, 4, 4] and ds["changed_heads"].values.tolist() == [5, 1, 1, 1, 2]
    assert not ds["gained"].sel(head=2).any() and ds["gained"].sel(layer=7, head=0) == 1
    assert ds["note"].values[0].startswith("too few verbs for a test (the counts of 1 instruction verbs and 0 general")
    assert pairs_verdict(ds).startswith("Not tested: too few verbs")
    heads = moved_heads(ds, top=3)
    assert heads[["layer", "head", "moved", "gained"]].values.tolist() == [[0, 0, 1, 1], [3, 0, 1, 1], [7, 0, 1, 1]]


def test_built_in_verbs_and_lemmas():
    words = ("write", "writes", "writing", "story", "poem", "run")
    rows = [(0, 0, dim, *pair) for dim in (0, 1) for pair in (("writes", "story"), ("writing", "poem"))]
    rows += [(0, 0, dim, "writes", "writing") for dim in (2, 3)]
    tables = word_table([], words=words), word_table(rows, words=words)
    ds = word_pairs(*tables, draws=20)
    assert ds["instruction_change"].values[0, 0] == 0 and ds["verb"].size == 0
    assert ds.attrs["verbs_asked"] == 38
    pytest.importorskip("lemminflect", reason="the lemmas extra is not installed")
    ds = word_pairs(*tables, draws=20, lemmas=True)
    assert ds["instruction_change"].values[0, 0] == 3  # writes-writing holds two forms of write, and counts once
    assert ds["tuned_instruction_share"].values[0, 0] == 4 / 6


def test_verb_lists():
    ds = word_pairs(*hand(), verbs=["Write ", "write"], general=["write", "run", "Walk"], min_dims=1, draws=20)
    assert ds["verb"].values.tolist() == ["write", "run", "walk"]
    assert ds["kind"].values.tolist() == ["instruction", "general", "general"]
    assert verb_changes(ds).query("group == 'all'")[["verb", "raised", "lowered"]].values.tolist() == [
        ["write", 1, 0], ["run", 0, 1], ["walk", 0, 1]
    ]  # fmt: skip
