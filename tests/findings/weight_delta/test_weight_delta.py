"""Weight change: numbers by hand, products against whole matrices, nothing between identical models, planted heads."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import Tensor

import itlens
from itlens.findings.base import Plan
from itlens.findings.weight_delta.columns import near_one, shown_matrices, span
from itlens.findings.weight_delta.diff import (
    concentration,
    head_rows,
    matrices_differ,
    matrix_rows,
    other_rankings,
    rankings_agree,
    written_rows,
)
from itlens.findings.weight_delta.finding import FINDING, WeightDeltaOptions
from itlens.findings.weight_delta.probe import head_changes, join_deltas, layer_changes, layer_delta, weight_delta
from itlens.findings.weight_delta.probe_words import ChangeInWords
from itlens.models import load_model
from itlens.report.blocks import Table, Text
from itlens.weights import AttentionWeights, MlpWeights, WeightPair, weights_of
from tests.tiny import tiny_hf_model, tiny_tokenizer


@dataclass
class Given:
    """`Weights` written out by a test: two heads of width 1 with one key-value head, d_model 2, four neurons."""

    attention_weights: AttentionWeights
    mlp_weights: MlpWeights
    tokenizer: Any = None
    attrs: dict[str, str] = field(default_factory=lambda: {"model": "given", "revision": "", "dtype": "float32"})

    @property
    def facts(self) -> dict[str, Any]:
        queries, keys = self.attention_weights.W_Q, self.attention_weights.W_K
        shape = {"layers": 1, "heads": len(queries), "key_value_heads": len(keys), "vocabulary": 0}
        return shape | {"d_model": queries.shape[1], "d_head": queries.shape[2], "d_mlp": 4, "architecture": "given"}

    def attention(self, layer: int) -> AttentionWeights:
        return self.attention_weights

    def mlp(self, layer: int) -> MlpWeights:
        return self.mlp_weights

    def embed(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def unembed(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def final_gain(self) -> Tensor:
        return torch.ones(2)


def given(*, queries: Any = ((3.0, 0.0), (0.0, 4.0)), out: Any = None, gain: Any = (1.0, 1.0)) -> Given:
    """queries: a row per head."""
    ones = torch.ones(2)
    attention = AttentionWeights(
        W_Q=torch.tensor(queries)[:, :, None],
        W_K=torch.tensor([[[1.0], [0.0]]]),
        W_V=torch.tensor([[[0.0], [2.0]]]),
        W_O=torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]),
        gain=torch.tensor(gain),
        out_gain=ones,
    )
    W_out = torch.eye(4)[:, :2] if out is None else torch.tensor(out)
    return Given(attention, MlpWeights(W_in=torch.ones(2, 4), W_gate=None, W_out=W_out, gain=ones, out_gain=ones))


def only(ds: xr.Dataset, name: str, **where: Any) -> float:
    return float(ds[name].sel(layer=0, **where))


class TestByHand:
    def test_a_matrix(self) -> None:
        """W_Q (rows are heads' outputs): [[3, 0], [0, 4]] becomes [[3, 1], [0, 4]]."""
        ds = weight_delta(given(), given(queries=((3.0, 1.0), (0.0, 4.0))))
        assert only(ds, "relative", matrix="W_Q") == pytest.approx(1 / 5)
        assert only(ds, "cosine", matrix="W_Q") == pytest.approx(25 / (5 * 26**0.5))
        assert only(ds, "unchanged", matrix="W_Q") == 3 / 4
        assert only(ds, "equal", matrix="W_Q") == 3 / 4
        assert only(ds, "effective_rank", matrix="W_Q") == pytest.approx(1)
        assert only(ds, "energy", matrix="W_Q", k=1) == pytest.approx(1)

    def test_two_equal_directions_are_two(self) -> None:
        ds = weight_delta(given(), given(queries=((3.0, 1.0), (1.0, 4.0))))
        assert only(ds, "effective_rank", matrix="W_Q") == pytest.approx(2)
        assert only(ds, "energy", matrix="W_Q", k=1) == pytest.approx(1 / 2)
        assert only(ds, "energy", matrix="W_Q", k=2) == pytest.approx(1)

    def test_entries_that_move_by_rounding_are_unchanged_but_not_equal(self) -> None:
        ds = weight_delta(given(), given(queries=((3.0, 5e-6), (0.0, 4.0))))
        assert only(ds, "unchanged", matrix="W_Q") == 1
        assert only(ds, "equal", matrix="W_Q") == 3 / 4

    def test_products_of_heads(self) -> None:
        """Head 0: W_QK = g q (g k)^T = [6, 0]^T [2, 0] with the gain (2, 1), and D = [0, 1]^T [2, 0]. Head 1 stays."""
        ds = weight_delta(given(gain=(2.0, 1.0)), given(queries=((3.0, 1.0), (0.0, 4.0)), gain=(2.0, 1.0)))
        assert only(ds, "head_relative", head=0, product="QK") == pytest.approx(2 / 12)
        assert only(ds, "head_cosine", head=0, product="QK") == pytest.approx(6 / 37**0.5)
        assert only(ds, "head_effective_rank", head=0, product="QK") == pytest.approx(1)
        assert only(ds, "head_relative", head=1, product="QK") == 0
        assert ds["head_relative"].sel(product="OV").values.tolist() == [[0, 0]]

    def test_intruders(self) -> None:
        """W_out = e1 e1^T + e2 e2^T (outputs x neurons) writes all of the plane: no vector can be new to it. Where the
        base writes e1 alone, a tuned matrix that writes e2 more strongly has one new direction among its two."""
        line = [[2.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
        plane = [[2.0, 0.0], [0.0, 3.0], [0.0, 0.0], [0.0, 0.0]]
        assert only(weight_delta(given(), given(out=plane)), "intruders", matrix="W_out") == 0
        # the base's second vector belongs to the singular value 0, and is a vector of it all the same
        assert only(weight_delta(given(out=line), given(out=plane)), "intruders", matrix="W_out") == 0

    def test_intruders_of_a_tall_matrix(self) -> None:
        """W_in has more outputs (4) than inputs (2): its left vectors span two dimensions, and a third is new."""
        base, tuned = given(), given()
        ones = base.mlp_weights.gain
        W_in = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]])
        turned = torch.tensor([[1.0, 0, 0, 0], [0, 0.2, 3.0, 0]])
        base.mlp_weights = MlpWeights(W_in, None, base.mlp_weights.W_out, ones, ones)
        tuned.mlp_weights = MlpWeights(turned, None, base.mlp_weights.W_out, ones, ones)
        assert only(weight_delta(base, tuned), "intruders", matrix="W_in") == 1

    def test_a_matrix_that_is_not_there(self) -> None:
        ds = weight_delta(given(), given(queries=((3.0, 1.0), (0.0, 4.0))))
        assert np.isnan(only(ds, "relative", matrix="W_gate"))
        assert "W_gate" not in matrix_rows(ds)["matrix"].tolist()


def random_attention(seed: int) -> AttentionWeights:
    torch.manual_seed(seed)
    shapes: dict[str, tuple[int, ...]] = {"W_Q": (4, 20, 3), "W_K": (2, 20, 3), "W_V": (2, 20, 3), "W_O": (4, 3, 20)}
    shapes |= {"gain": (20,), "out_gain": (20,)}
    return AttentionWeights(**{name: torch.randn(*shape) for name, shape in shapes.items()})


def test_the_core_has_the_singular_values_of_the_whole_product() -> None:
    base, tuned = random_attention(0), random_attention(1)
    found = head_changes(base, tuned)
    for head in range(4):
        whole = []
        for each in (base, tuned):
            gain, after = each.gain.double()[:, None], each.out_gain.double()
            queries, keys = gain * each.W_Q[head].double(), gain * each.W_K[head // 2].double()
            values, outputs = gain * each.W_V[head // 2].double(), each.W_O[head].double() * after
            whole.append((queries @ keys.T, values @ outputs))
        for product, (before, now) in enumerate(zip(*whole, strict=True)):
            s = torch.linalg.svdvals(now - before)[:6]
            p = s / s.sum()
            assert found.relative[head, product] == pytest.approx(float((now - before).norm() / before.norm()))
            assert found.effective_rank[head, product] == pytest.approx(float(torch.exp(-(p * p.log()).sum())))
            assert found.energy[head, product, 1] == pytest.approx(float((s[:2] ** 2).sum() / (s**2).sum()))
            cosine = float((before * now).sum() / before.norm() / now.norm())
            assert found.cosine[head, product] == pytest.approx(cosine)


def test_tiny_changes_keep_their_digits() -> None:
    """In float32 the difference of two products would have lost a change of 1e-6 of their size."""
    base = random_attention(0)
    step = torch.randn(4, 20, 3) * 1e-6 * base.W_Q.abs()
    tuned = AttentionWeights(base.W_Q + step, base.W_K, base.W_V, base.W_O, base.gain, base.out_gain)
    gain = base.gain.double()[:, None]
    moved = (tuned.W_Q.double() - base.W_Q.double())[2] * gain
    keys, queries = base.W_K[1].double() * gain, base.W_Q[2].double() * gain
    expected = float((moved @ keys.T).norm() / (queries @ keys.T).norm())
    assert head_changes(base, tuned).relative[2, 0] == pytest.approx(expected, rel=1e-9)


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    """Two tiny Llamas: in the tuned one head 2 of layer 1 writes otherwise, W_in of layer 0 gained one direction."""
    base, tuned = (tiny_hf_model("llama", 3) for _ in range(2))
    with torch.no_grad():
        tuned.model.layers[1].self_attn.o_proj.weight[:, 24:36] *= 1.5
        up = tuned.model.layers[0].mlp.up_proj.weight
        up += torch.outer(torch.randn(56), torch.randn(32))
    return base, tuned


def loaded(model: Any, **options: Any) -> Any:
    return load_model(model, tokenizer=tiny_tokenizer(), check=False, **options)


@pytest.fixture(scope="module")
def delta(models: tuple[Any, Any]) -> xr.Dataset:
    return weight_delta(*map(loaded, models))


def test_the_planted_head_is_the_only_one_that_changed(delta: xr.Dataset) -> None:
    moved = delta["head_relative"] > 0
    assert np.argwhere(moved.values).tolist() == [[1, 2, 1]]
    assert float(delta["head_relative"][1, 2, 1]) == pytest.approx(0.5)
    assert float(delta["head_cosine"][1, 2, 1]) == pytest.approx(1)


def test_a_change_of_rank_one_has_one_direction(delta: xr.Dataset) -> None:
    changed = delta.sel(layer=0, matrix="W_in")
    assert float(changed["effective_rank"]) == pytest.approx(1, abs=1e-3)
    assert float(changed["effective_rank_random"]) > 20
    assert (delta["relative"] > 0).sum() == 2


def test_identical_models_show_exactly_nothing(models: tuple[Any, Any]) -> None:
    model = loaded(models[0])
    ds = weight_delta(model, model)
    nothing = {"relative": 0, "cosine": 1, "unchanged": 1, "equal": 1, "effective_rank": 0, "intruders": 0}
    nothing |= {"head_relative": 0, "head_cosine": 1, "head_effective_rank": 0}
    for name, value in nothing.items():
        assert (ds[name] == value).all(), name
    assert ds["energy"].isnull().all()
    assert np.isnan(matrices_differ(ds))
    assert np.isnan(concentration(ds))
    assert len(head_rows(ds, None)) == 0
    tables = {"weight_delta": ds, "weight_matrices": matrix_rows(ds), "weight_heads": head_rows(ds, None)}
    verdict = FINDING.verdict(tables)
    assert verdict.answer == "no significant change"
    assert "same numbers" in verdict.sentence
    assert [type(block) for block in FINDING.show(tables)] == [Text]


def test_both_backends_agree(models: tuple[Any, Any], delta: xr.Dataset) -> None:
    bridged = weight_delta(*(loaded(copy.deepcopy(model), backend="bridge") for model in models))  # takes them over
    xr.testing.assert_allclose(bridged.drop_attrs(), delta.drop_attrs(), rtol=1e-6)


def test_streamed_equals_loaded(models: tuple[Any, Any], delta: xr.Dataset, tmp_path: Path) -> None:
    folders = []
    for name, model in zip(("base", "tuned"), models, strict=True):
        model.save_pretrained(tmp_path / name)
        folders.append(tmp_path / name)
    streaming = weight_delta(*(itlens.open_weights(folder, tokenizer=False) for folder in folders))
    assert streaming.drop_attrs().equals(delta.drop_attrs())


def test_layers_can_be_chosen(models: tuple[Any, Any], delta: xr.Dataset) -> None:
    part = weight_delta(*map(loaded, models), layers=[1])
    assert part["layer"].values.tolist() == [1]
    assert part["relative"].equals(delta["relative"].sel(layer=[1]))


def test_models_of_other_shapes_are_refused() -> None:
    other = loaded(tiny_hf_model("llama", num_key_value_heads=4, num_hidden_layers=3))
    with pytest.raises(itlens.PairError, match="layers 2 and 3; key_value_heads 2 and 4"):
        weight_delta(loaded(tiny_hf_model("llama")), other)


def test_a_name_is_not_a_model() -> None:
    with pytest.raises(itlens.ModelError, match="weight_delta got 'gpt2' as the model"):
        weight_delta("gpt2", "gpt2")  # type: ignore[arg-type]


_SPOKEN = "the sentence into quick brown fox jumps over lazy dog sleeps text below line there small house river"
WORDS = itlens.Vocabulary(_SPOKEN.split())


def test_a_planted_direction_is_read_in_its_word() -> None:
    """W_out of layer 1 gains an outer product that writes the output vector of "house"; W_Q of head 3 one that reads
    "river"."""
    base, tuned = (tiny_hf_model("llama", 3) for _ in range(2))

    def vector(word: str, embedding: Any) -> Tensor:
        mean = itlens.mean_vectors(loaded(base), WORDS, embedding=embedding)[WORDS.words.index(word)]
        return mean / mean.norm()

    with torch.no_grad():
        layer = tuned.model.layers[1]
        layer.mlp.down_proj.weight += torch.outer(vector("house", "output"), torch.ones(56))
        river = vector("river", "input") / layer.input_layernorm.weight
        layer.self_attn.q_proj.weight[36:] += 5 * torch.outer(torch.ones(12), river)
    pair = [weights_of(loaded(model)) for model in (base, tuned)]
    words = ChangeInWords(*pair, WORDS, seed=0).read(1, layer_changes(*pair, 1)[1])
    first = words.sel(layer=1, matrix="W_out", direction=1)
    assert str(first["word"][0].item()) == "house"
    assert abs(float(first["score"][0])) == pytest.approx(1, abs=1e-4)
    assert first["score"].values.min() < 0 < first["score"].values.max(), "both ends of a direction have words"
    (row,) = written_rows(words).query("matrix == 'W_out' and direction == 1").to_dict("records")
    assert row["words"].startswith("house, ")
    assert "~" in row["words"]
    assert row["score"] == pytest.approx(1, abs=1e-4)
    assert float(first["p"]) < 0.02
    assert words.sel(layer=1, matrix="W_O")["score"].isnull().all(), "W_O did not change"
    assert words["match"].sel(layer=1, head=3, end="query").values[0] == "river"
    assert (words["match"].sel(layer=1, head=0) == "").all()


@pytest.mark.long
def test_planted_heads_are_found_under_noise() -> None:
    """The detector of `itlens selftest`: strong plants in any head, nothing in noise alone or in identical models."""
    found = itlens.selftest(
        probes="weight change", repeats=4, calibration=19, strengths=64, most_layers=3, words=200, progress=False
    ).sel(probe="weight change")
    strong = found["recall"].sel(strength=64)
    assert strong.sel(plant="scaled_head") == 1
    assert strong.sel(plant="rank_one_qk") == 1
    assert float(found["rank"].sel(plant="scaled_head", strength=64)) == 1
    assert float(found["identical"]) == 0


class TestTables:
    def test_matrices(self, delta: xr.Dataset) -> None:
        rows = matrix_rows(delta).set_index("matrix")
        assert rows.loc["W_in", "relative"] == pytest.approx(float(delta["relative"].sel(matrix="W_in").mean()))
        assert rows.loc["W_Q", "relative"] == 0
        assert rows.index.tolist() == ["W_Q", "W_K", "W_V", "W_O", "W_in", "W_gate", "W_out"]

    def test_concentration_counts_squares(self) -> None:
        heads = np.zeros((2, 10, 2))
        heads[0, 0, 0], heads[1, 3, 1], heads[1, 5] = 3, 1, (1, 1)
        ds = xr.Dataset({"head_relative": (("layer", "head", "product"), heads)}, {"product": ["QK", "OV"]})
        assert concentration(ds) == pytest.approx((9 + 2) / 12)

    def test_friedman_sees_a_matrix_that_always_changes_more(self) -> None:
        rng = np.random.default_rng(0)
        values = rng.uniform(0.1, 0.2, (12, 4))
        same = xr.Dataset({"relative": (("layer", "matrix"), values)})
        values = values + np.array([0, 0, 0.3, 0])
        assert matrices_differ(same) > 0.05
        assert matrices_differ(xr.Dataset({"relative": (("layer", "matrix"), values)})) < 1e-3

    def test_agreement_with_other_rankings(self, delta: xr.Dataset) -> None:
        heads = {"layer": [0, 1], "head": range(4)}
        drawn = np.random.default_rng(0).uniform(size=(2, 4, 2))
        ds = xr.Dataset({"head_relative": (("layer", "head", "product"), drawn)}, {**heads, "product": ["QK", "OV"]})
        qk, ov = drawn[..., 0], drawn[..., 1]
        tables = {
            "attention": {"word_pairs": xr.Dataset({"overlap": (("layer", "head"), 1 - qk)}, heads)},
            "activation": None,
            "patching": {"patching": xr.Dataset({"recovered": (("layer", "head"), -ov)}, heads)},
        }
        others = other_rankings(tables)
        assert [*others] == ["word pairs", "patching"]
        rows = rankings_agree(ds, others).set_index(["product", "other"])
        assert rows.loc[("QK", "word pairs"), "spearman"] == pytest.approx(1)
        assert rows.loc[("OV", "patching"), "spearman"] == pytest.approx(1), "the size of the effect counts"
        assert rows.loc[("OV", "patching"), "p_holm"] < 0.01
        assert rows.loc[("OV", "patching"), "heads"] == 8


def test_the_finding_shows_and_says_what_the_function_computes(models: tuple[Any, Any], delta: xr.Dataset) -> None:
    plan = Plan(WeightDeltaOptions(vocabulary=WORDS), {}, layers=(0, 1), heads=4, side="pair")
    source = FINDING.open(WeightPair(*(weights_of(loaded(model)) for model in models)), plan)
    saved = {"pair": {unit: FINDING.run(source, unit, plan) for unit in FINDING.units(plan)}}
    tables = FINDING.compare(saved, plan)
    assert tables["weight_delta"].equals(delta)
    (head,) = tables["weight_heads"].to_dict("records")
    assert (head["layer"], head["head"]) == (1, 2)
    assert (head["QK"], head["OV"], head["rank_QK"]) == (0, pytest.approx(0.5), 0)
    verdict = FINDING.verdict(tables)
    assert verdict.answer == "changed"
    assert "no significant difference between matrices" in verdict.sentence
    titles = [block.title for block in FINDING.show(tables) if isinstance(block, Table)]
    assert titles == ["Matrices", "The heads that changed most", "What the change writes, in words"]
    assert FINDING.distances(tables)["weight_change"] == pytest.approx(float(delta["relative"].mean()))
    assert isinstance(tables["weight_words"], pd.DataFrame)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.559, 0.598, "[55.9, 59.8]"), (0.00482, 0.00513, "[0.48, 0.51]"), (0.5, 0.5, "[50.0, 50.0]")],
)
def test_an_interval_has_digits_that_tell_its_ends_apart(low: float, high: float, shown: str) -> None:
    assert span(low, high) == shown


@pytest.mark.parametrize(
    ("cosine", "shown"), [(0.83151, "0.8315"), (0.999986, "0.999986"), (0.99999987, "0.99999987"), (1.0, "1.0000")]
)
def test_a_cosine_near_one_is_not_rounded_to_it(cosine: float, shown: str) -> None:
    assert near_one({"cosine": cosine}) == shown


def test_shares_that_print_as_zero_in_every_row_are_left_out() -> None:
    rows = pd.DataFrame({"unchanged": [0.0, 0.0004], "equal": [0.0, 0.0]})
    columns, said = shown_matrices(rows)
    assert not {"unchanged", "equal"} & {column.name for column in columns}
    assert said == "hardly an entry moved by less than 1e-5"
    columns, said = shown_matrices(rows.assign(unchanged=[0.0, 0.2]))
    assert "unchanged" in {column.name for column in columns}
    assert said == "hardly an entry is the same number in both models"
    columns, said = shown_matrices(rows.assign(unchanged=0.2, equal=0.1))
    assert {"unchanged", "equal"} < {column.name for column in columns}
    assert said == ""


def test_layers_join_in_order(models: tuple[Any, Any], delta: xr.Dataset) -> None:
    pair = [weights_of(loaded(model)) for model in models]
    assert join_deltas([layer_delta(*pair, layer) for layer in (0, 1)]).equals(delta)
