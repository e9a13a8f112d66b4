"""Faithfulness: a model that hangs on one token, orders that say nothing, and runs done again by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens import ProbeError, Prompt, PromptError
from itlens.findings.faithfulness.probe_curves import curve_numbers, removal_masks, removed_counts, token_order
from itlens.findings.faithfulness.probe_runs import baseline_vector
from itlens.hooked.hooks import run_hooked, token_logprobs
from itlens.models import source_of
from itlens.weights import weights_of
from tests.probes.one_token import KEY, PROMPT, RESPONSE, one_token_model
from tests.tiny import BACKENDS, hf_in_float64, tiny_hf_model, tiny_tokenizer

QUIET: dict[str, Any] = {"progress": False}
TEXT = Prompt("Translate the dog. A river flows.", response=" yes, plum", id="p", group="g")


def tiny(backend: str = "hooked", architecture: str = "llama", **options: Any) -> Any:
    model = tiny_hf_model(architecture, dtype=torch.float64, **options)
    return itlens.load_model(model, tokenizer=tiny_tokenizer(), backend=backend, dtype="float64", check=False)


@pytest.fixture(params=BACKENDS)
def model(request: pytest.FixtureRequest) -> Iterator[Any]:
    with hf_in_float64(tiny_hf_model("llama")) if request.param == "bridge" else nullcontext():
        yield tiny(request.param)


def by_hand(model: Any, ids: list[int], prompt: slice, removed: list[int], baseline: torch.Tensor) -> float:
    """The mean log-probability of what follows the prompt when these of its tokens are replaced."""

    def put(value: torch.Tensor, hook: Any) -> torch.Tensor:
        value = value.clone()
        value[0, [prompt.start + place for place in removed]] = baseline
        return value

    positions = list(range(prompt.stop - 1, len(ids) - 1))
    with torch.no_grad():
        logits = run_hooked(model, torch.tensor([ids[:-1]]), [("hook_embed", put)], positions=positions)
    return float(token_logprobs(logits, torch.tensor(ids[prompt.stop :])).mean())


@pytest.mark.parametrize(
    ("backend", "method"),
    [("hooked", "input_x_gradient"), ("bridge", "input_x_gradient"), ("hooked", "integrated_gradients")],
)
def test_where_one_token_carries_everything_its_deletion_is_the_whole_fall(backend: str, method: str) -> None:
    model = one_token_model(backend)
    ds = itlens.faithfulness(model, PROMPT, response=RESPONSE, method=method, baseline="zero", draws=100, **QUIET)
    assert ds.source_token.values[ds["rank"].values == 0] == [KEY]
    share = ds.share.sel(order="attribution")
    np.testing.assert_allclose(share.sel(direction="deletion"), [1, *[0] * 10], atol=1e-3)
    np.testing.assert_allclose(share.sel(direction="insertion"), [0, *[1] * 10], atol=1e-3)
    # trapezoids over ten steps: half of the first one, and all but that
    np.testing.assert_allclose(ds.area.sel(order="attribution"), [0.05, 0.95], atol=1e-3)
    # a random order takes the key out in the middle, on average
    assert ds.area.sel(order="random").values == pytest.approx(0.5, abs=0.1)
    assert (ds.advantage > 0.35).all() and (ds.p < 0.25).all()  # the key stands first in a tenth of all orders too
    gap = float(ds.intact - ds.removed)
    assert float(ds.comprehensiveness[0]) == pytest.approx(gap, rel=1e-3)
    assert float(ds.sufficiency[0]) == pytest.approx(0, abs=1e-3)
    assert ds.attrs["method"] == method and ds.attrs["note"] == ""


def test_the_worst_order_keeps_the_key_to_the_end() -> None:
    values = [1.0 if character != KEY else 0.0 for character in PROMPT]
    ds = itlens.faithfulness(one_token_model(), PROMPT, values, response=RESPONSE, baseline="zero", **QUIET)
    np.testing.assert_allclose(ds.area.sel(order="attribution"), [0.95, 0.05], atol=1e-3)
    assert (ds.advantage < -0.3).all() and (ds.p >= 0.9).all()


def test_every_point_is_the_run_done_by_hand_and_the_front_stays(model: Any) -> None:
    ds = itlens.faithfulness(model, TEXT, steps=4, draws=3, seed=5, batch_size=3, **QUIET)
    tokenizer = source_of(model).tokenizer
    ids = tokenizer(TEXT.text + str(TEXT.response))["input_ids"]
    count = ds.sizes["source"]
    prompt = slice(1, 1 + count)
    assert ids[0] == 1 and ds.source_id.values.tolist() == ids[prompt] and ds.attrs["front_tokens"] == 1
    baseline = model.embed(torch.arange(300)[None])[0].detach().mean(dim=0)
    order = np.argsort(ds["rank"].values)
    for place, removed in enumerate(ds.removed_tokens.values):
        gone = {"deletion": order[:removed], "insertion": order[removed:]}
        for direction, tokens in gone.items():
            expected = by_hand(model, ids, prompt, tokens.tolist(), baseline)
            assert float(ds.curve.sel(order="attribution", direction=direction)[place]) == pytest.approx(
                expected, abs=1e-9
            )
    assert float(ds.intact) == pytest.approx(by_hand(model, ids, prompt, [], baseline), abs=1e-12)
    assert (ds.curve.sel(direction="deletion")[:, 0] == ds.intact).all()
    assert (ds.curve.sel(direction="insertion")[:, 0] == ds.removed).all()


def test_the_order_is_that_of_the_density_and_its_ties_of_the_sum() -> None:
    model = tiny()
    scores = itlens.attribute(model, TEXT, progress=False)
    ds = itlens.faithfulness(model, TEXT, scores, steps=2, draws=1, **QUIET)
    order = np.argsort(ds["rank"].values)
    density, total = itlens.importance_density(scores).values[order], scores.score.sum("target").values[order]
    assert (np.diff(density) <= 0).all() and (density == 0).sum() > 3
    assert (np.diff(total[density == 0]) <= 0).all()
    by_sum = itlens.faithfulness(model, TEXT, scores, by="sum", steps=2, draws=1, **QUIET)
    assert (np.diff(scores.score.sum("target").values[np.argsort(by_sum["rank"].values)]) <= 0).all()
    again = itlens.faithfulness(model, TEXT, steps=2, draws=1, **QUIET)
    assert again.drop_attrs().identical(ds.drop_attrs()), "scores are computed where none are given"


def test_ties_go_by_chance_not_by_place() -> None:
    orders = [token_order(np.zeros(9), np.zeros(9), np.random.default_rng(seed)) for seed in range(200)]
    assert np.mean([order[0] for order in orders]) == pytest.approx(4, abs=0.6)


@pytest.mark.long
def test_random_scores_are_no_better_than_random_orders() -> None:
    model = tiny()
    count = len(source_of(model).tokenizer(TEXT.text)["input_ids"]) - 1
    found = [
        itlens.faithfulness(
            model, TEXT, np.random.default_rng(1000 + seed).random(count), steps=4, draws=9, seed=seed, **QUIET
        )
        for seed in range(40)
    ]
    advantage = np.array([ds.advantage_nats.values for ds in found])
    error = advantage.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert (np.abs(advantage.mean(axis=0)) < 3 * error).all()
    p = np.array([ds.p.values for ds in found])
    assert p.min() == pytest.approx(0.1), "one over all orders is the least there is"
    assert p.mean() == pytest.approx(0.55, abs=0.15), "uniform on 0.1 .. 1.0"


def test_both_backends_agree() -> None:
    with hf_in_float64(tiny_hf_model("gemma3")):
        one, other = (
            itlens.faithfulness(tiny(backend, "gemma3"), TEXT, steps=3, draws=4, **QUIET) for backend in BACKENDS
        )
    np.testing.assert_allclose(one.curve, other.curve, atol=1e-9)
    assert (one["rank"] == other["rank"]).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("architecture", ["gemma", "gemma3", "gpt2"])
def test_the_mean_vector_is_one_of_the_hook_point(architecture: str, backend: str) -> None:
    """Gemma scales its embeddings on the way; the mean must be of what stands at hook_embed."""
    model, kept = tiny(backend, architecture), {}

    def keep(value: torch.Tensor, hook: Any) -> None:
        kept["value"] = value.detach()[0]

    count = 250  # ids in one text, which has 256 positions
    with torch.no_grad():
        run_hooked(model, torch.arange(count)[None], [("hook_embed", keep)])
    torch.testing.assert_close(kept["value"], weights_of(model).embed(torch.arange(count)))


def test_what_is_asked_wrongly_gets_one_sentence() -> None:
    model = tiny()
    for options, message in (
        ({"by": "rank"}, "by='rank' is unknown; expected one of 'density', 'sum'"),
        ({"baseline": "noise"}, "baseline='noise' is unknown; expected one of 'mean', 'zero'"),
        ({"steps": 0}, "steps=0; expected a whole number of at least 1"),
        ({"draws": 1.5}, "draws=1.5; expected a whole number"),
        ({"seed": -1}, "seed=-1; expected a whole number of at least 0"),
        ({"scores": [1.0]}, "scores are an array of shape .1,.*one finite number for each of the"),
        ({"scores": np.full(15, np.nan)}, "one finite number for each"),
        ({"scores": itlens.attribute(model, "The dog.", " sleeps", progress=False)}, "were computed on 'The dog.'"),
    ):
        with pytest.raises(ProbeError, match=message):
            itlens.faithfulness(model, TEXT, **(QUIET | options))
    scores = itlens.attribute(model, TEXT, progress=False)
    with pytest.raises(ProbeError, match="leave response= out"):
        itlens.faithfulness(model, TEXT, scores, response=" no", **QUIET)
    with pytest.raises(ProbeError, match=r"expected a result of itlens\.attribute by"):
        itlens.faithfulness(model, TEXT, itlens.to_words(scores), **QUIET)
    with pytest.raises(ProbeError, match="with this model's tokenizer and the same prepend_bos"):
        itlens.faithfulness(model, TEXT, scores, prepend_bos=False, **QUIET)
    with pytest.raises(ProbeError, match="takes one Prompt or text, not a list"):
        itlens.faithfulness(model, [TEXT], **QUIET)
    with pytest.raises(PromptError, match="has an empty response"):
        itlens.faithfulness(model, TEXT.replace(response=""), **QUIET)


def test_counts_and_masks_by_hand() -> None:
    assert removed_counts(10, 4).tolist() == [0, 3, 5, 8, 10]
    assert removed_counts(3, 4).tolist() == [0, 1, 2, 2, 3]
    masks = removal_masks(np.array([[2, 0, 1], [1, 2, 0]]), 3)
    gone = masks.removed[masks.points]  # (order, direction, fraction, source)
    on, off = True, False
    assert gone[0, 0].tolist() == [[off, off, off], [off, off, on], [on, off, on], [on, on, on]]
    assert gone[0, 1].tolist() == [[on, on, on], [on, on, off], [off, on, off], [off, off, off]]
    assert gone[1, 0].tolist() == [[off, off, off], [off, on, off], [off, on, on], [on, on, on]]
    assert (gone[1, 1] == gone[1, 0][::-1]).all(), "a random order is put back from its end: no further run"
    assert len(masks.removed) == len(np.unique(masks.removed, axis=0)) == 7


def test_areas_and_advantages_by_hand() -> None:
    fraction = np.array([0.0, 0.5, 1.0])
    own = [[-1.0, -3.0, -5.0], [-5.0, -2.0, -1.0]]
    random = [[-1.0, -2.0, -5.0], [-5.0, -2.0, -1.0]], [[-1.0, -4.0, -5.0], [-5.0, -4.0, -1.0]]
    found = {
        name: np.asarray(values) for name, (_, values) in curve_numbers(np.array([own, *random]), fraction).items()
    }
    # shares of the attribution: 1, 0.5, 0 and 0, 0.75, 1; of the random means: 1, 0.5, 0 and 0, 0.5, 1
    np.testing.assert_allclose(found["area"], [[0.5, 0.625], [0.5, 0.5]])
    np.testing.assert_allclose(found["advantage"], [0.0, 0.125])
    np.testing.assert_allclose(found["advantage_nats"], [0.0, 0.5])
    np.testing.assert_allclose(found["p"], [2 / 3, 2 / 3])  # one random order is as good or better, each time
    np.testing.assert_allclose(found["comprehensiveness"], [2.0, 2.0])
    np.testing.assert_allclose(found["sufficiency"], [1.0, 2.0])


def test_a_prompt_that_does_not_matter_has_no_shares() -> None:
    ds = itlens.faithfulness(one_token_model(), "abcdefghi", response=RESPONSE, baseline="zero", draws=2, **QUIET)
    assert np.isnan(ds.area).all() and np.isnan(ds.advantage).all()
    assert ds.attrs["note"] == "removing the whole prompt lowers the response by less than 0.05 nats: no shares of it"
    assert np.isfinite(ds.advantage_nats).all() and (ds.p == 1).all()


def test_zero_and_mean_are_what_they_say() -> None:
    model = tiny()
    assert (baseline_vector(model, "zero") == 0).all()
    expected = model.W_E.detach()[:300].mean(dim=0)
    torch.testing.assert_close(baseline_vector(model, "mean"), expected, atol=1e-12, rtol=0)
