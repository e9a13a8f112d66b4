"""What activation_shift refuses, in one sentence, and that nothing is left on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import itlens
from itlens.errors import PairError, ProbeError, PromptError
from itlens.hooked.cache import ActivationCache, kept_positions
from itlens.hooked.tokens import forced
from tests.findings.activation.shift_reference import PROMPTS, altered, load, network
from tests.tiny import tiny_folder


@pytest.fixture(scope="module")
def pair() -> tuple[Any, Any]:
    return load(network(seed=0)), load(network(seed=1))


def shift(pair: Any, **options: Any) -> Any:
    return itlens.activation_shift(pair, PROMPTS, **{"responses": "given", "progress": False} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hooks": ("resid", "residue")}, "'residue' is unknown; expected some of resid, head, mlp, pattern, lens"),
        ({"hooks": ()}, "names nothing to compare"),
        ({"hooks": "Heads"}, r"\(the nearest is 'head'\); for hook points of your own use itlens.activations\(hooks="),
        ({"hooks": ["blocks.0.hook_z"]}, r"pattern, lens; for hook points of your own"),
        ({"hooks": None}, r"^hooks=None names nothing to compare; expected some of resid, head, mlp, pattern, lens\.$"),
        ({"seed": -1}, "seed=-1; expected a whole number of at least 0"),
        ({"responses": "mine"}, "responses='mine' is unknown"),
        ({"cache_bytes": 0}, "cache_bytes"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"cache": "/nowhere/at/all"}, "is no folder"),
        ({"cache_bytes": 5000}, r"cache_bytes=5000 holds less than one position .* give at least \d+ \(\d+ for all"),
    ],
)
def test_wrong_options_are_one_sentence(pair: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ProbeError, match=message):
        shift(pair, **options)


def test_the_size_that_the_error_names_is_enough(pair: Any) -> None:
    with pytest.raises(ProbeError) as caught:
        shift(pair, cache_bytes=5000, hooks=("resid", "pattern"))
    least, everything = (
        int("".join(filter(str.isdigit, part))) for part in str(caught.value).split("at least")[1].split("(")[:2]
    )
    few = shift(pair, cache_bytes=least, hooks=("resid", "pattern"))
    assert few.token_count.sel(token_class="all").values.tolist() == [1, 1, 1]
    assert shift(pair, cache_bytes=everything, hooks=("resid", "pattern")).attrs["note"] == ""
    assert shift(pair, cache_bytes=everything - 1, hooks=("resid", "pattern")).attrs["note"] != ""


def test_wrong_prompts_and_pairs(pair: Any) -> None:
    with pytest.raises(PromptError, match="has no response"):
        itlens.activation_shift(pair, PROMPTS[0].replace(response=None), responses="given")
    with pytest.raises(ProbeError, match=r"expected itlens.load_pair\(base, tuned\)"):
        itlens.activation_shift(pair[0], PROMPTS)
    with pytest.raises(PairError, match="layers 2 and 3"):
        shift((pair[0], load(network(num_hidden_layers=3))))
    short = load(network(max_position_embeddings=12))
    with pytest.raises(PromptError, match="one of the two models reads at most 12"):
        shift((pair[0], short))


@pytest.mark.parametrize("where", ["base", "tuned"])
def test_activations_that_are_not_finite_name_the_layer(pair: Any, where: str, tmp_path: Path) -> None:
    broken = load(network(seed=1))
    with torch.no_grad():
        broken.blocks[1].mlp.W_out.mul_(torch.inf)
    with pytest.raises(ProbeError, match=r"layer 1 of .* are not finite on prompt 'a'"):
        shift((pair[0], broken) if where == "tuned" else (broken, pair[0]), cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_on_the_disk(pair: Any, tmp_path: Path) -> None:
    seen = []

    def stop(done: int, everything: int) -> None:
        seen.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shift(pair, cache=tmp_path, progress=stop)
    assert seen[-1] > seen[0] > 0 and not list(tmp_path.iterdir())
    shift(pair, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_progress_counts_to_its_end(pair: Any) -> None:
    seen: list[tuple[int, int]] = []
    shift(pair, progress=lambda done, everything: seen.append((done, everything)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen}) and seen[-1][0] == seen[-1][1]


def test_a_pair_is_loaded_one_model_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("base", "tuned")):
        tiny_folder(tmp_path / name, "llama", seed=seed)
    both = itlens.load_pair(tmp_path / "base", tmp_path / "tuned")
    loaded = []
    own = type(both)._model

    def watched(self: Any, which: str) -> Any:
        if which not in self._held:
            loaded.append(which)
        return own(self, which)

    monkeypatch.setattr(type(both), "_model", watched)
    ds = itlens.activation_shift(both, PROMPTS[:1], max_new_tokens=3)
    assert loaded == ["tuned", "base"] and list(both._held) == ["base"]
    assert ds.attrs["base_model"].endswith("base") and ds.attrs["tuned_model"].endswith("tuned")


def test_half_precision_is_compared_in_single() -> None:
    base = network(dtype=torch.float32)

    def alter(model: Any) -> None:
        model.model.layers[0].mlp.down_proj.weight *= 1.5

    networks = base, altered(base, alter)
    whole = shift([load(one, dtype="float32") for one in networks])
    half = shift([load(one, dtype="bfloat16") for one in networks])
    for name in ("mlp_relative_change", "resid_cka", "pattern_jsd", "lens_kl_base_tuned"):
        assert half[name].dtype == np.float64
        np.testing.assert_allclose(half[name], whole[name], rtol=0.3, atol=0.03, err_msg=name)


def test_positions_that_predict_are_kept_first(pair: Any) -> None:
    read = forced(pair[0], PROMPTS)
    everything = kept_positions(read, 10, 0, 10**6, 0)
    assert [places.tolist() for places in everything] == [list(range(len(one.read))) for one in read]
    for most in (60, 200, 500):
        kept = kept_positions(read, 10, 0, most, 0)
        assert sum(map(len, kept)) * 10 <= most
        for one, places in zip(read, kept, strict=True):
            targets = set(one.positions)
            assert set(places) <= targets or targets <= set(places)
            assert places.tolist() == sorted(set(places.tolist()))


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    cache = ActivationCache(tmp_path)
    values = {"a": torch.randn(7, 3), "b": torch.randn(5, 2, 4, dtype=torch.float64), "c": torch.randn(4).bfloat16()}
    for name, value in values.items():
        cache.put("one", name, value)
    assert torch.equal(cache.get("one", "a"), values["a"]) and torch.equal(
        cache.get("one", "b", 1, 3), values["b"][1:3]
    )
    assert torch.equal(cache.get("one", "c"), values["c"].float())
    assert torch.equal(cache.rows("one", "b", [4, 0]), values["b"][[4, 0]])
    with pytest.raises(ProbeError, match="too little for"):
        cache.reserve(10**18)


def test_texts_are_prompts(pair: Any) -> None:
    texts = ["List three animals.", "A river flows."]
    ds = itlens.activation_shift(pair, texts, hooks="resid", max_new_tokens=3, progress=False)
    assert ds["prompt"].values.tolist() == ["prompt-0001", "prompt-0002"]
    named = [itlens.Prompt(text, id=f"prompt-{number:04d}") for number, text in enumerate(texts, 1)]
    assert ds.equals(itlens.activation_shift(pair, named, hooks="resid", max_new_tokens=3, progress=False))
