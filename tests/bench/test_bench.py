"""`itlens bench`: references compute the same as ours, ratios survive a file, and what fell is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.bench.measure import all_benchmarks, chosen_benchmarks, measure
from itlens.bench.record import BEGIN, END, BenchError, BenchRecord, goal_text
from itlens.findings.benchmark import Benchmark, Ratio
from itlens.shapes.checkpoint import RANK, SIZE, write_pair
from itlens.shapes.model_shapes import LLAMA_7B, SMOLLM2_135M, ModelShape, word_vectors_of
from itlens.shapes.workbench import Workbench
from itlens.weights.stored import open_weights
from tests.commands import Commands

TINY = ModelShape("tiny shape", 2, 4, 2, 64, 16, 160, 1200, tied=False, norm_eps=1e-5)
MACHINE = {"processor": "P", "threads": 1, "cores": 2, "memory_gb": 8.0, "torch": "2", "matrix_products_gflops": 50.0}


class Steady(Benchmark):
    """A benchmark whose ratios a test sets."""

    name = "steady"
    measures = "Nothing"
    values = (4.0, 2.0)

    def run(self, bench: Workbench) -> Iterator[Ratio]:
        yield Ratio("speed", "a snail", self.values[0], "higher", 3.0, "1 s against 4 s")
        yield Ratio("memory", "an elephant", self.values[1], "lower", 1.5)


def record(*values: float, full: bool = False) -> BenchRecord:
    ratios = [Ratio("speed", "a snail", values[0], "higher"), Ratio("memory", "an elephant", values[1], "lower")]
    return BenchRecord({"steady": ratios}, MACHINE, "2026-01-01", "0.2.0", full)


class TestRecord:
    def test_a_file_gives_back_what_was_measured(self, tmp_path: Path) -> None:
        record(4, 2).write(tmp_path / "bench.json")
        assert BenchRecord.read(tmp_path / "bench.json") == record(4, 2)

    @pytest.mark.parametrize(
        ("now", "fell"),
        [
            ((4, 2), []),
            ((3.01, 2.65), []),
            ((3.0, 2), ["speed"]),
            ((8, 2.67), ["memory"]),
            ((1, 9), ["speed", "memory"]),
            ((9, 1), []),
        ],
    )
    def test_a_quarter_worse_is_a_fall(self, now: tuple[float, float], fell: list[str]) -> None:
        """Of 4, higher is better, a quarter less is 3; of 2, lower is better, three quarters as good is 2 / 0.75."""
        assert [ratio.what for ratio, _ in record(*now).fallen(record(4, 2))] == fell

    def test_what_is_hardly_used_varies(self) -> None:
        assert [ratio.what for ratio, _ in record(4, 0.06).fallen(record(4, 0.01))] == []
        assert [ratio.what for ratio, _ in record(4, 0.07).fallen(record(4, 0.01))] == ["memory"]

    def test_operations_are_timed_by_name(self) -> None:
        matrix = torch.randn(300, 300)
        seconds, spent = Workbench().operations(lambda: (matrix @ matrix).topk(3))
        assert {"mm", "topk"} <= set(spent)
        assert 0 < spent["mm"] + spent["topk"] <= seconds

    def test_goals(self) -> None:
        assert goal_text(Ratio("a", "b", 3.0, "higher", 3.0)) == "at least 3, reached"
        assert goal_text(Ratio("a", "b", 3.0, "lower", 2.5)) == "at most 2.5, missed"
        assert goal_text(Ratio("a", "b", 3.0, "lower")) == ""

    def test_the_table_is_written_between_its_marks(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nAfter\n")
        record(4, 2).write_into(page)
        record(5, 2).write_into(page)
        text = page.read_text()
        assert text.startswith("# Before\n") and text.endswith("\nAfter\n")
        assert "old" not in text
        assert text.count("| speed | a snail | 5 |") == 1
        assert "2026-01-01" in text and "1 of 2 cores" in text


class TestBadInput:
    """One sentence each."""

    def test_sizes_that_differ(self) -> None:
        with pytest.raises(BenchError, match=r"earlier figures are of the whole shapes \(--full\)"):
            record(4, 2).fallen(record(4, 2, full=True))

    def test_nothing_in_common(self) -> None:
        other = BenchRecord({"other": [Ratio("x", "y", 1, "lower")]}, MACHINE, "2026-01-01", "0.2.0", False)
        with pytest.raises(BenchError, match="none of the ratios"):
            record(4, 2).fallen(other)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("[]", "holds a list"),
            ("{", "not readable JSON"),
            ('{"format": 2}', "has the format 2"),
            ('{"format": 1, "ratios": [{"what": "x"}]}', "no whole file"),
        ],
    )
    def test_files_that_are_none_of_ours(self, content: str, words: str, tmp_path: Path, commands: Commands) -> None:
        (tmp_path / "old.json").write_text(content)
        done = commands.run("bench", "--against", tmp_path / "old.json")
        assert (done.code, done.err.count("\n")) == (2, 1)
        assert words in done.err

    def test_an_unknown_benchmark(self, commands: Commands) -> None:
        done = commands.run("bench", "--only", "attribution,flowers")
        assert done.code == 2
        assert "Unknown benchmark 'flowers'; expected all, or some of attribution" in done.err

    def test_a_page_without_marks(self, tmp_path: Path) -> None:
        (tmp_path / "page.md").write_text("nothing here")
        with pytest.raises(BenchError, match="has no marks for the table"):
            record(4, 2).write_into(tmp_path / "page.md")
        assert (tmp_path / "page.md").read_text() == "nothing here"


class TestCommand:
    @pytest.fixture(autouse=True)
    def _steady(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("itlens.bench.measure.all_benchmarks", lambda: {"steady": Steady})
        monkeypatch.setattr(Steady, "values", (4.0, 2.0))
        monkeypatch.setattr(Workbench, "_measured_rate", lambda self: 5e10)

    def test_table_file_and_fall(self, tmp_path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "160")
        old = tmp_path / "old.json"
        first = commands.run("bench", "--json", old)
        assert first.code == 0, first.err
        assert "at least 3, reached" in first.out
        assert "at most 1.5, missed" in first.out
        assert "50 GFLOP/s" in first.out
        held = json.loads(old.read_text())
        assert held["machine"]["matrix_products_gflops"] == 50.0
        assert [row["value"] for row in held["ratios"]] == [4.0, 2.0]
        same = commands.run("bench", "--against", old)
        assert same.code == 0
        assert "No ratio fell by a quarter" in same.out
        monkeypatch.setattr(Steady, "values", (2.0, 2.0))
        worse = commands.run("bench", "--against", old)
        assert worse.code == 1
        assert "Fell by a quarter or more: speed, against a snail: 2, was 4" in worse.out
        assert "elephant:" not in worse.out

    def test_the_list_runs_nothing(self, commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Steady, "run", None)
        done = commands.run("bench", "--list")
        assert (done.code, done.out.split()) == (0, ["steady", "Nothing"])


class TestShapes:
    def test_a_pair_is_streamed_and_differs_by_a_change_of_low_rank(self, tmp_path: Path) -> None:
        base, tuned = map(open_weights, write_pair(tmp_path, TINY, 2, dtype=torch.float32))
        assert base.facts["layers"] == 2
        before, now = (weights.mlp(1).W_out.double() for weights in (base, tuned))
        values = torch.linalg.svdvals(now - before)
        assert float(values[RANK - 1]) > 1e-3 * float(values[0])
        assert float(values[RANK]) < 1e-4 * float(values[0])
        assert float((now - before).norm() / before.norm()) == pytest.approx(SIZE, rel=1e-3)
        assert base.tokenizer("the of")["input_ids"] == [3, 4]

    def test_a_layer_does_not_depend_on_how_many_there_are(self, tmp_path: Path) -> None:
        one, two = (open_weights(write_pair(tmp_path / str(n), TINY, n)[0], tokenizer=False) for n in (1, 2))
        assert torch.equal(one.attention(0).W_Q, two.attention(0).W_Q)
        assert not torch.equal(two.attention(0).W_Q, two.attention(1).W_Q)

    def test_shapes_are_those_of_the_models(self) -> None:
        """Parameters as Hugging Face counts them: 134.5 million of SmolLM2-135M, 6.74 billion of LLaMA-7B."""
        counts = []
        for shape in (SMOLLM2_135M, LLAMA_7B):
            heads = shape.d_model * shape.d_head * (2 * shape.heads + 2 * shape.key_value_heads)
            layer = heads + 3 * shape.d_model * shape.d_mlp + 2 * shape.d_model
            ends = shape.vocabulary * shape.d_model * (1 if shape.tied else 2) + shape.d_model
            counts.append(shape.layers * layer + ends)
        assert counts == [134_515_008, 6_738_415_616]

    def test_vectors_of_more_words_than_are_built_in(self) -> None:
        vectors = word_vectors_of([f"w{number}" for number in range(20_500)])
        assert vectors.vectors.shape[0] == 20_500
        assert np.isfinite(vectors.vectors).all()


class TestReferences:
    """The ways that ours are compared with compute the same."""

    def test_released_attribution(self) -> None:
        from itlens.findings.attribution.benchmarks import released_way, text_of

        hf = TINY.hf_model()
        texts = text_of(TINY, 5, 3, seed=1)
        ids = TINY.tokenizer()(" ".join(texts))["input_ids"]
        count = len(texts[0].split())
        theirs = released_way(hf, ids[:count], ids[count:])
        ours = itlens.attribute(itlens.load_model(TINY.hf_model(), tokenizer=TINY.tokenizer(), check=False), *texts)
        np.testing.assert_allclose(ours.score.values, theirs, rtol=1e-3, atol=1e-6 * np.abs(theirs).max())

    def test_released_word_pairs(self, tmp_path: Path) -> None:
        from itlens.findings.attention.benchmarks import ReleasedWay

        weights = open_weights(write_pair(tmp_path, TINY, 1, dtype=torch.float32)[0])
        vocab = itlens.Vocabulary(TINY.words(1000))
        vectors = word_vectors_of(vocab.words)
        table = itlens.qk_word_pairs(weights, vocab, vectors=vectors, heads=[1], top_k=100, progress=False)
        rows, attention = itlens.mean_vectors(weights, vocab), weights.attention(0)
        maps = (attention.W_Q[1], attention.W_K[0])
        query, key = ((rows @ (attention.gain[:, None] * weight)).numpy() for weight in maps)
        texts = ReleasedWay(vocab.words, vectors.vectors).pairs_of(query, key)
        theirs = {(dim, *pair.split("=")) for dim, text in enumerate(texts) for pair in text.split("|||") if pair}
        ours = set(zip(table["dim"], table["query"], table["key"], strict=True))
        assert len(theirs) > 100
        assert len(theirs ^ ours) <= len(theirs) // 100, "thresholds are float32 there"


@pytest.fixture(scope="module")
def measured() -> BenchRecord:
    """All benchmarks of the findings, on shapes that take a second."""

    class Small(Workbench):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.small = self.large = TINY
            self.small_layers, self.words = 2, 1000

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("itlens.shapes.workbench.Workbench", Small)
        patch.setattr("itlens.findings.attribution.benchmarks._LENGTHS", ((4, 3),))
        return measure(chosen_benchmarks("all"), rounds=1)


def test_every_benchmark_gives_ratios(measured: BenchRecord) -> None:
    assert set(measured.ratios) == set(all_benchmarks())
    flat = [ratio for ratios in measured.ratios.values() for ratio in ratios]
    assert len({ratio.key for ratio in flat}) == len(flat), "two ratios of one name could not be compared"
    assert not [ratio for ratio in flat if not (np.isfinite(ratio.value) and ratio.value >= 0)]


def test_references_are_named(measured: BenchRecord) -> None:
    keys = {ratio.against for ratios in measured.ratios.values() for ratio in ratios}
    assert {
        "the released way",
        "the matrix-product peak",
        "its bare matrix products",
        "Gram matrix and eigenvectors",
        "the SVDs it needs",
    } <= keys
