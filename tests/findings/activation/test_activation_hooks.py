"""A user's own hook points and reductions: what they are given, what is kept, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import ProbeError
from itlens.hooked.tokens import CLASSES, forced
from tests.findings.activation.activation_models import PROMPTS, seen, shared
from tests.tiny import BACKENDS


@pytest.fixture(scope="module", params=BACKENDS)
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


def test_names_that_hold_a_layer_get_an_axis_of_layers(model: Any) -> None:
    patterns = ["blocks.{layer}.hook_resid_mid", "blocks.{layer}.attn.hook_z"]
    ds = itlens.activations(model, PROMPTS, hooks=patterns)
    assert ds.hook_rms.dims == ("prompt", "hook", "layer", "token_class")
    assert ds.hook.values.tolist() == patterns
    assert ds.layer.values.tolist() == [0, 1]
    assert ds.attrs["hooks"] == ", ".join(patterns)
    points = [pattern.replace("{layer}", str(layer)) for pattern in patterns for layer in (0, 1)]
    flat = itlens.activations(model, PROMPTS, hooks=points).hook_rms
    for pattern in patterns:
        for layer in (0, 1):
            there = flat.sel(hook=pattern.replace("{layer}", str(layer))).values
            np.testing.assert_array_equal(ds.hook_rms.sel(hook=pattern, layer=layer), there)


def test_a_name_means_its_own_point_only(model: Any) -> None:
    """ "blocks.{layer}.hook_q_input" and the like must not be met in deeper places: a layer is a number."""
    ds = itlens.activations(model, PROMPTS[1], hooks="blocks.{layer}.attn.hook_v", reduce=lambda value, prompt: 1.0)
    assert ds.hook_reduced.sizes == {"prompt": 1, "hook": 1, "layer": 2}
    starred = itlens.activations(model, PROMPTS[1], hooks="blocks.{layer}.*hook_v", reduce=lambda value, prompt: 1.0)
    assert starred.hook_reduced.dims == ("prompt", "hook")
    assert starred.hook.values.tolist() == ["blocks.0.attn.hook_v", "blocks.1.attn.hook_v"]


def test_axes_are_named(model: Any, tmp_path: Any) -> None:
    def corner(value: torch.Tensor, prompt: Any) -> torch.Tensor:
        return value[-2:, :3]

    point = "blocks.{layer}.hook_resid_post"
    ds = itlens.activations(model, PROMPTS, hooks=point, reduce=corner, axes=("place", "feature"))
    assert ds.hook_reduced.dims == ("prompt", "hook", "layer", "place", "feature")
    assert ds.hook_reduced.attrs["long_name"] == "corner"
    for one in forced(model, PROMPTS):
        for layer in (0, 1):
            name = f"blocks.{layer}.hook_resid_post"
            expected = seen(model, one.read, name)[name][-2:, :3]
            np.testing.assert_allclose(ds.hook_reduced.sel(prompt=one.id, hook=point, layer=layer), expected, rtol=1e-5)
    assert itlens.load(itlens.save(ds, tmp_path / "own.nc")).identical(ds)
    diff = itlens.diff.activations(ds, ds, minimum=2)
    assert diff.hook_reduced.dims == ("group", "measure", "hook", "layer", "place", "feature")
    heads = itlens.activations(
        model, PROMPTS, hooks="blocks.{layer}.attn.hook_z", reduce=lambda z, prompt: z[-1].norm(dim=-1), axes="head"
    )
    assert heads.hook_reduced.dims == ("prompt", "hook", "layer", "head")
    assert heads["head"].values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("axes", "reduce", "message"),
    [
        (
            ("a", "b"),
            lambda value, prompt: value[-1, :3],
            r"names 2 axes \(a, b\), but .* shape \(3,\); name each of its",
        ),
        ("head", lambda value, prompt: value[-1, :3], 'calls an axis of 3 "head", but the model has 4 heads'),
        ("layer", lambda value, prompt: value[-1, :3], "'layer', which is an axis of every result"),
        (("a", "a"), lambda value, prompt: value[-2:, :3], "'a', which is there twice"),
        (("two words",), lambda value, prompt: value[-1, :3], "holds 'two words'; expected names of axes"),
        ((3,), lambda value, prompt: value[-1, :3], "holds 3; expected names of axes"),
        ("feature", None, "names the axes of what reduce= gives; pass reduce= as well"),
    ],
)
def test_axes_that_cannot_be(model: Any, axes: Any, reduce: Any, message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        itlens.activations(model, PROMPTS[1], hooks="blocks.{layer}.hook_resid_post", reduce=reduce, axes=axes)
