"""A user's own hook points and reductions: what they are given, what is kept, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import ProbeError
from itlens.probes.running.forced import CLASSES, forced
from tests.probes.activation_models import PROMPTS, seen, shared


@pytest.fixture(scope="module", params=["hooked", "bridge"])
def model(request: pytest.FixtureRequest) -> Any:
    return shared("llama", request.param)


def test_without_a_function_sizes_by_class_are_kept(model: Any) -> None:
    ds = itlens.activations(model, PROMPTS, hooks=("blocks.{layer}.hook_resid_mid", "blocks.1.attn.hook_z"))
    assert ds.hook.values.tolist() == [*(f"blocks.{layer}.hook_resid_mid" for layer in (0, 1)), "blocks.1.attn.hook_z"]
    assert list(ds.data_vars) == ["hook_rms"] and ds.hook_rms.dims == ("prompt", "hook", "token_class")
    for one in forced(model, PROMPTS):
        got = seen(model, one.read, *ds.hook.values)
        for name, value in got.items():
            rms = np.sqrt(np.mean(value.reshape(len(one.read), -1) ** 2, axis=1))
            for kind in CLASSES:
                where = one.of_class(kind)
                kept = ds.hook_rms.sel(prompt=one.id, hook=name, token_class=kind).item()
                assert np.isnan(kept) if not where.size else kept == pytest.approx(rms[where].mean(), rel=1e-5)


def test_a_function_gets_one_prompts_activation_and_its_tokens(model: Any) -> None:
    def last_two(value: torch.Tensor, one: Any) -> torch.Tensor:
        assert value.shape[0] == len(one.read) and not value.requires_grad
        return value[list(one.positions)][-2:, :3]

    point = "blocks.1.hook_resid_post"
    ds = itlens.activations(model, PROMPTS, hooks=(point, "norms"), reduce=last_two)
    assert ds.hook_reduced.dims == ("prompt", "hook", "reduced_0", "reduced_1") and "resid_rms" in ds
    for one in forced(model, PROMPTS):
        expected = seen(model, one.read, point)[point][list(one.positions)][-2:, :3]
        np.testing.assert_allclose(ds.hook_reduced.sel(prompt=one.id, hook=point), expected, rtol=1e-5)
    assert ds.attrs["reduce"] == "last_two"
    number = itlens.activations(model, PROMPTS, hooks="blocks.*.attn.hook_pattern", reduce=lambda p, one: p.shape[-1])
    assert number.hook_reduced.dims == ("prompt", "hook")
    np.testing.assert_array_equal(number.hook_reduced[:, 0], number.tokens.sum("token_class"))


def test_the_unembedding_is_met_at_every_position(model: Any) -> None:
    ds = itlens.activations(model, PROMPTS[0], hooks=("unembed.hook_in", "lens"))
    assert ds.hook_rms.sel(token_class="instruction").item() > 0
    plain = itlens.activations(model, PROMPTS[0], hooks="lens")
    np.testing.assert_allclose(ds.lens_logprob, plain.lens_logprob)


def test_results_can_be_kept(model: Any, tmp_path: Any) -> None:
    ds = itlens.activations(model, PROMPTS, hooks=("attention", "lens", "hook_embed"))
    assert itlens.load(itlens.save(ds, tmp_path / "activations.nc")).identical(ds)


@pytest.mark.parametrize(
    ("reduce", "message"),
    [
        (
            lambda value, one: value.mean(1),
            r"prompt 'b' has the shape \(\d+,\), but \(\d+,\) for hook .* on prompt 'a'",
        ),
        (lambda value, one: float("nan"), r"gave for hook 'blocks.0.hook_resid_mid' on prompt 'a' is not finite"),
        (lambda value, one: "large", "on prompt 'a' is a str; expected a number or an array"),
        (lambda value, one: None, "on prompt 'a' is a NoneType; expected a number or an array"),
        (3, r"reduce=3: expected a function"),
    ],
)
def test_reductions_that_cannot_be_kept(model: Any, reduce: Any, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        itlens.activations(model, PROMPTS, hooks="blocks.0.hook_resid_mid", reduce=reduce)


def test_a_reduction_needs_a_hook_point_and_a_pattern_needs_a_reduction(model: Any) -> None:
    with pytest.raises(ProbeError, match="names no hook point to apply it to"):
        itlens.activations(model, PROMPTS, hooks="norms", reduce=lambda value, one: 0)
    with pytest.raises(ProbeError, match=r"'blocks.0.attn.hook_pattern' gives .*, no vector for each .* pass reduce="):
        itlens.activations(model, PROMPTS, hooks="blocks.0.attn.hook_pattern")


@pytest.mark.parametrize("hooks", [None, 3])
def test_hooks_that_are_no_names(model: Any, hooks: Any) -> None:
    with pytest.raises(ProbeError, match=f"hooks={hooks}; expected some of attention, mlp, norms, lens, or names of"):
        itlens.activations(model, PROMPTS, hooks=hooks)


def test_a_hook_point_that_is_switched_off_is_named(model: Any) -> None:
    with pytest.raises(ProbeError, match=r"'blocks.0.attn.hook_result' is not met by a run of this model"):
        itlens.activations(model, PROMPTS, hooks="blocks.0.attn.hook_result")
