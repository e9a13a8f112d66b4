"""Word pairs that cannot be compared, and options without sense: one sentence that says what to do."""

from __future__ import annotations

import pytest

from itlens.diff import moved_heads, pair_changes, pairs_verdict, word_pairs
from itlens.errors import ResultError
from tests.diff.word_tables import FAST, TUNED, WORDS, hand, random_word_table, word_table


def with_column(table, name, values):
    return table.assign(**{name: values})


BAD_TABLES = [
    (lambda t: t.attrs, "tuned is a dict: give the DataFrame"),
    (lambda t: t.drop(columns="key"), r"tuned is no table of word pairs \(no column key\)"),
    (lambda t: t.assign().set_axis(t.columns, axis=1).pipe(lambda u: setattr(u, "attrs", {}) or u), "an unknown probe"),
    (lambda t: word_table(TUNED, probe="qk_energy"), "result of qk_energy by its attrs, expected qk_word_pairs"),
    (lambda t: word_table(TUNED, n_layers=9), "different shapes: base 1 layers x 2 heads of 64 dim.*tuned 9 layers"),
    (lambda t: word_table(TUNED, d_head=32), "of 32 dimensions"),
    (lambda t: word_table(TUNED, n_layers=1, layers=[0], heads=[0, 1, 2], n_heads=2), "Different heads were probed"),
    (lambda t: word_table(TUNED, vocabulary="sha256:0"), r"different vocabulary: base words.txt \(sha256:0123"),
    (lambda t: word_table(TUNED, vectors="sha256:0"), "different word vectors"),
    (lambda t: word_table(TUNED, top_k=50), "different top_k: base 100, tuned 50"),
    (lambda t: word_table(TUNED, deviations=1.0), "different deviations"),
    (lambda t: word_table(TUNED, baseline=100), "different baseline"),
    (lambda t: word_table(TUNED, signed=False), "different signed"),
    (lambda t: with_column(t, "head", 5), "rows of head 5, but its attrs say that the heads probed are 0, 1"),
    (lambda t: with_column(t, "query", None), "'query' of tuned holds values that are no words"),
    (lambda t: with_column(t, "key", 3), "'key' of tuned holds values that are no words"),
]


@pytest.mark.parametrize("spoil, message", BAD_TABLES)
def test_tables_that_cannot_be_compared(spoil, message):
    base, tuned = hand()
    for compare in (lambda a, b: word_pairs(a, b, **FAST), pair_changes):
        with pytest.raises(ResultError, match=message):
            compare(base, spoil(tuned))


def test_other_layers():
    tables = [word_table([], layers=layers, n_layers=30) for layers in (range(30), (0, 1))]
    with pytest.raises(ResultError, match=r"layers were probed: base 0, 1, 2, 3, 4, 5, 6, \.\.\., 29, tuned 0, 1\."):
        word_pairs(*tables, **FAST)
    table = word_table([])
    del table.attrs["top_k"]
    with pytest.raises(ResultError, match="does not say its top_k"):
        word_pairs(word_table([]), table, **FAST)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"verbs": []}, "`verbs` holds no verb"),
        ({"general": [" "]}, "`general` holds no verb"),
        ({"verbs": ["schreiben", "sagen"]}, r"\(20 words\) holds no verb of `verbs` \(schreiben, sagen\)"),
        ({"general": ["laufen"]}, "holds no verb of `general`"),
        ({"verbs": ["write", 3]}, "holds 3, which is no word"),
        ({"verbs": ["run"], "general": ["Run"]}, "Every verb of `general` is one of `verbs` too"),
        ({"draws": 0}, "draws=0: expected a whole number of at least 1"),
        ({"min_dims": 1.5}, "min_dims=1.5"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ResultError, match=message):
        word_pairs(*hand(), **{**FAST, **options})


@pytest.mark.parametrize("asked", [{"layers": 4}, {"heads": [0, 9]}, {"heads": []}])
def test_heads_that_were_not_probed(asked):
    with pytest.raises(ResultError, match=r"No such (layer|head) in these tables: .*; the (layer|head)s probed are 0"):
        pair_changes(*hand(), **asked)


def test_moved_heads_needs_a_result_of_word_pairs():
    with pytest.raises(ResultError, match="no overlap"):
        moved_heads(word_pairs(*hand(), **FAST).drop_vars("overlap"))
    assert len(WORDS) == 20  # the messages above say so


def test_groups_of_layers_are_quarters_of_the_model_not_of_what_was_probed() -> None:
    table = word_table([], layers=(0, 10, 31), n_layers=32)
    found = word_pairs(table, table)
    assert found.group.values.tolist() == ["all", "layers 0-7", "layers 8-15", "layers 24-31"]
    assert found.layer_group.values.tolist() == ["layers 0-7", "layers 8-15", "layers 24-31"]


def test_the_verdict_goes_by_what_was_tested() -> None:
    """A difference above 0 but far below that of random verb sets is no rise of instruction verbs."""
    row = {"instruction_share": 0.6, "general_share": 0.5, "difference": 0.1, "null_mean": 0.4, "p_null": 0.001}
    row |= {"ci_low": 0.0, "ci_high": 0.2, "p_welch": 0.5, "p_sets": 0.001, "p_swap": 0.001}
    table = random_word_table(0)
    found = word_pairs(table, random_word_table(1))
    for name, value in row.items():
        found[name][0] = value
    found["note"] = ("group", [""] * found.sizes["group"])
    assert pairs_verdict(found).startswith("No significant change: ")
    found["null_mean"][0] = 0.0
    assert pairs_verdict(found).startswith("Tuned heads relate more words to instruction verbs")
