"""Task words: energies by hand, control sets, nulls at their level, a planted rotation in its set alone, bad input."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import itlens
from itlens.errors import PairError, ProbeError, ResultError, StoreError
from itlens.findings.task_words import finding as finding_module
from itlens.findings.task_words import probe
from itlens.findings.task_words.columns import GAINS, shown_columns
from itlens.findings.task_words.controls import coherence, matched_draws, part_of_speech, strata, topic_draws
from itlens.findings.task_words.diff import permutation_p, task_changes, task_gains
from itlens.findings.task_words.energies import quoted_size, set_energies
from itlens.findings.task_words.sets import loaded_task_sets
from itlens.vocabulary import Vocabulary
from itlens.weights import MlpWeights
from tests.commands import Commands
from tests.study.studies import small
from tests.tiny import tiny_folder

WORDS = [f"w{number}" for number in range(300)]
WIDTH, NEURONS, LAYERS = 48, 96, 5
PLANES = 4  # of a planted rotation
SETS = {name: [WORDS[number] for number in range(start, 300, 10)] for start, name in enumerate(("a", "b", "c", "d"))}


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """What is imported is no garbage: loading a model collects several times, which takes a second otherwise."""
    gc.freeze()
    yield
    gc.unfreeze()


def word_tokenizer() -> Any:
    """A tokenizer that has every word as a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"<unk>": 0} | {w: n + 1 for n, w in enumerate(WORDS)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>")


@dataclass
class Plain:
    """The `Weights` of a model that is only embeddings and feed-forward layers."""

    embedding: torch.Tensor
    mlps: list[MlpWeights]
    tokenizer: Any
    facts: dict[str, Any] = field(
        default_factory=lambda: {"layers": LAYERS, "d_model": WIDTH, "d_mlp": NEURONS, "vocabulary": 301}
    )
    attrs: dict[str, str] = field(
        default_factory=lambda: {
            "model": "plain",
            "revision": "",
            "dtype": "float32",
            "backend": "",
            "architecture": "",
        }
    )

    def attention(self, layer: int) -> Any:
        raise NotImplementedError

    def mlp(self, layer: int) -> MlpWeights:
        return self.mlps[layer]

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embedding[ids]

    unembed = embed

    def final_gain(self) -> torch.Tensor:
        return torch.ones(WIDTH)


def layer_of(generator: torch.Generator) -> MlpWeights:
    scale = torch.linspace(2.0, 0.5, WIDTH)  # a spectrum with a slope
    W_in, W_out = (torch.randn(NEURONS, WIDTH, generator=generator) * scale for _ in range(2))
    return MlpWeights(W_in.T.contiguous(), None, W_out, torch.ones(WIDTH), torch.ones(WIDTH))


@pytest.fixture(scope="module")
def base() -> Plain:
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(301, WIDTH, generator=generator)
    return Plain(embedding, [layer_of(generator) for _ in range(LAYERS)], word_tokenizer())


def tuned_of(base: Plain, toward: str = "", strength: float = 0.0, noise: float = 0.05) -> Plain:
    """The base with noise on all of its feed-forward weights, and new value directions, those of a set's words."""
    generator = torch.Generator().manual_seed(1)
    mlps = []
    for mlp in base.mlps:
        W_in, W_out = (
            weight + noise * torch.randn(weight.shape, generator=generator) for weight in (mlp.W_in, mlp.W_out)
        )
        if toward:
            rows = base.embedding[[WORDS.index(word) + 1 for word in SETS[toward]]]
            first = torch.linalg.svd(rows / rows.norm(dim=1, keepdim=True)).Vh[:PLANES]
            W_out = W_out + strength * torch.randn(NEURONS, PLANES, generator=generator) @ first
        mlps.append(MlpWeights(W_in, None, W_out, mlp.gain, mlp.out_gain))
    return Plain(base.embedding, mlps, base.tokenizer)


def energies(base: Plain, tuned: Plain, sets: Mapping[str, list[str]] = SETS) -> xr.Dataset:
    return itlens.task_energy(base, tuned, dict(sets), Vocabulary(WORDS), progress=False)  # type: ignore[arg-type]


def test_energies_are_those_of_an_independent_computation(base: Plain) -> None:
    tuned = tuned_of(base)
    found = energies(base, tuned)
    assert found["k"].values.tolist() == [10, 12]
    assert found.attrs["quoted_k"] == 12
    rows = base.embedding[1:].numpy().astype(float)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    words = (unit - unit.mean(0))[[WORDS.index(word) for word in SETS["b"]]]
    matrices = [model.mlps[2].W_out.numpy().astype(float) for model in (base, tuned)]
    for side, matrix in zip(("base", "tuned", "change"), (*matrices, matrices[1] - matrices[0]), strict=True):
        first = np.linalg.svd(matrix - matrix.mean(0))[2][:10]
        expected = np.square(words @ first.T).sum() / np.square(words).sum()
        own = found["energy"].sel(vectors="value", set="b", layer=2, k=10, side=side)
        assert float(own) == pytest.approx(expected, abs=2e-6), side
    keys = [model.mlps[1].W_in.T.numpy().astype(float) for model in (base, tuned)]
    both = [np.square(words @ np.linalg.svd(m - m.mean(0))[2][:12].T).sum() / np.square(words).sum() for m in keys]
    gain = found["gain"].sel(vectors="key", set="b", layer=1, k=12)
    assert float(gain) == pytest.approx(both[1] - both[0], abs=4e-6)


def test_sums_by_hand() -> None:
    controls = xr.Dataset(
        {
            "norm": ("word", [1.0, 1.0, 2.0, 4.0]),
            "member": (("set", "word"), [[True, False, True, False]]),
            "matched": (("draw", "place"), [[0, 1], [2, 3]]),
            "topic": (("draw", "place"), [[0, 0], [3, 3]]),
        },
        coords={"word": list("pqrs"), "set": ["one"]},
        attrs={"probe": "task_energy"},
    )
    energy = np.array([[[[0.5, 0.1, 1.0, 1.0]], [[0.8, 0.1, 1.3, 0.0]], [[0.0, 0.0, 0.0, 4.0]]]])
    layers = xr.Dataset(
        {"energy": (("layer", "side", "k", "word"), energy), "change_rank": ("layer", [1])},
        coords={"layer": [0], "side": ["base", "tuned", "change"], "k": [5], "word": list("pqrs")},
    )
    found = set_energies({"value": (controls, layers)}).sel(vectors="value", set="one")
    assert found["energy"].values.ravel() == pytest.approx([1.5 / 3, 2.1 / 3, 0.0])
    assert found["gain"].item() == pytest.approx(0.2)
    assert found["null_gain"].sel(control="matched").values == pytest.approx([0.3 / 2, (1.3 - 2.0) / 6])
    assert found["null_gain"].sel(control="topic").values == pytest.approx([0.3, -0.25])
    assert found["null_change"].sel(control="topic").values == pytest.approx([0.0, 1.0])
    assert quoted_size([10, 50, 100, 300]) == 100
    assert quoted_size([150, 300]) == 150


def test_permutation_p_by_hand() -> None:
    drawn = np.array([-1.0, 0.0, 1.0, 2.0])
    assert permutation_p(8.0, drawn) == pytest.approx(1 / 5)  # mean 2: distances 3, 2, 1, 0 and 6
    assert permutation_p(2.0, drawn) == pytest.approx(3 / 5)  # mean 0.8: 1.8 0.8 0.2 1.2, 1.2
    assert permutation_p(0.0, np.zeros(9)) == 1.0
    assert np.isnan(permutation_p(np.nan, drawn))


def gains_of(value: float, nulls: Mapping[str, float], layers: int = LAYERS) -> xr.Dataset:
    """Energies of one set that gained `value` in every layer, and of controls whose gains lie around `nulls`."""
    noise = np.random.default_rng(0).normal(0, 1e-4, (len(nulls), 999))
    null = noise - noise.mean(1, keepdims=True) + np.array([*nulls.values()])[:, None]
    energy = np.zeros((1, 1, layers, 1, 3)) + np.array([0.1, 0.1 + value, value])
    whole = ("vectors", "set")
    return xr.Dataset(
        {
            "energy": ((*whole, "layer", "k", "side"), energy),
            "gain": ((*whole, "layer", "k"), energy[..., 1] - energy[..., 0]),
            **dict.fromkeys(("null_gain", "null_change"), ((*whole, "control", "draw"), null[None, None])),
            **{
                name: ((*whole, "layer"), np.full((1, 1, layers), nulls["matched"]))
                for name in ("null_layers", "null_change_layers")
            },
            "words": (whole, [[20]]),
            "change_rank": (("vectors", "layer"), np.ones((1, layers), dtype=int)),
        },
        coords={
            "vectors": ["value"], "set": ["one"], "layer": range(layers), "k": [5],
            "side": ["base", "tuned", "change"], "control": [*nulls],
        },
        attrs={"quoted_k": 5},
    )  # fmt: skip


@pytest.mark.parametrize(("topic", "p"), [(0.01, 1.0), (0.001, 1 / 1000)])
def test_a_gain_between_both_controls_is_no_gain(topic: float, p: float) -> None:
    rows = task_gains(gains_of(0.002, {"matched": 0.0, "topic": topic}))
    assert rows["p_matched"].tolist() == pytest.approx([1 / 1000])
    assert rows["p_topic"].tolist() == pytest.approx([1 / 1000])
    assert rows["p"].tolist() == pytest.approx([p])


@pytest.mark.parametrize(("layers", "said"), [(4, "(+0.20 points, Holm"), (30, "(+0.20 points, 95 % over 30 layers [")])
def test_an_interval_says_that_it_is_over_layers(layers: int, said: str) -> None:
    found = gains_of(0.002, {"matched": 0.0, "topic": 0.0}, layers)
    rows = task_gains(found)
    assert bool(rows["ci_low"].isna().all()) == (layers < 5)
    verdict = finding_module.FINDING.verdict({"task_energy": found, "task_gains": rows})
    assert said in verdict.sentence


def rows_of(excess: dict[str, float]) -> dict[str, Any]:
    """Tables with these gains of tasks in keys, beyond controls; tasks that lost or gained nothing have p = 1."""
    nothing = {"ci_low": np.nan, "ci_high": np.nan, "layers": 4, "vectors": "key"}
    rows = [
        nothing | {"task": task, "excess": gain, "p": 0.01, "p_holm": 0.01 if gain else 1.0}
        for task, gain in excess.items()
    ]
    return {"task_energy": gains_of(0.002, {"matched": 0.0, "topic": 0.0}), "task_gains": pd.DataFrame(rows)}


@pytest.mark.parametrize(
    ("excess", "said", "direction", "answer"),
    [
        (
            {"daily": 0.0, "maths": -0.007},
            "the feed-forward layers rotated away from maths in keys (−0.70 points, Holm p = 0.010) and toward none of "
            "the 2 tasks.",
            "lower", "away from maths",
        ),
        (
            {"daily": 0.002, "maths": 0.0},
            "the feed-forward layers rotated toward daily in keys (+0.20 points, Holm p = 0.010).",
            "higher", "toward daily",
        ),
        (
            {"daily": 0.002, "maths": -0.007},
            "the feed-forward layers rotated away from maths in keys (−0.70 points, Holm p = 0.010) and toward daily "
            "in keys (+0.20 points, Holm p = 0.010).",
            "changed", "changed",
        ),
        ({"a task with a name too long for a column": 0.002}, "rotated toward a task with", "higher", "higher"),
    ],
)  # fmt: skip
def test_the_verdict_says_toward_and_away_from_which_tasks(
    excess: dict[str, float], said: str, direction: str, answer: str
) -> None:
    verdict = finding_module.FINDING.verdict(rows_of(excess))
    assert said in verdict.sentence
    assert (verdict.direction, verdict.answer) == (direction, answer)
    if answer == "away from maths":
        assert verdict.short == "the feed-forward layers rotated away from maths and toward none of the 2 tasks"


def test_what_is_the_same_in_all_rows_is_said_once() -> None:
    rows = task_gains(gains_of(0.002, {"matched": 0.0, "topic": 0.0}))
    two = pd.concat([rows, rows.assign(layers=LAYERS - 1)])
    columns, said = shown_columns(rows, GAINS)
    assert [column.name for column in columns] == [column.name for column in GAINS]
    assert said == f"layers: {LAYERS}, k = 5"
    columns, said = shown_columns(two, GAINS)
    assert [column.name for column in columns][:3] == ["vectors", "task", "layers"]
    assert said == "k = 5"


def test_a_layer_that_did_not_change_is_left_out_of_the_change(base: Plain) -> None:
    tuned = tuned_of(base, "a", strength=3.0)
    tuned.mlps[1] = base.mlps[1]
    found = energies(base, tuned)
    rows = task_changes(found)
    assert rows["layers"].tolist() == [LAYERS - 1] * len(rows)
    assert rows[rows["p_holm"] < 0.05][["vectors", "task"]].to_numpy().tolist() == [["value", "a"]]
    without = itlens.task_energy(
        base, tuned, SETS, Vocabulary(WORDS), layers=[0, 2, 3, 4], progress=False  # type: ignore[arg-type]
    )  # fmt: skip
    others = task_changes(without)
    for name in ("change", "excess", "p_matched", "matched_low", "topic_high", "p"):
        assert rows[name].to_numpy() == pytest.approx(others[name].to_numpy()), name


def test_identical_models_show_exactly_nothing(base: Plain) -> None:
    found = energies(base, base)
    assert float(np.abs(found["gain"]).max()) == 0.0
    assert int(found["change_rank"].sum()) == 0
    assert np.isnan(found["energy"].sel(side="change")).all()
    rows = task_gains(found)
    assert rows["p"].tolist() == [1.0] * len(rows)
    assert rows["excess"].tolist() == [0.0] * len(rows)
    verdict = finding_module.FINDING.verdict({"task_energy": found, "task_gains": rows})
    assert (verdict.direction, verdict.tested) == ("none", True)
    assert verdict.sentence.startswith("No change")


@pytest.mark.parametrize("toward", ["a", "c"])
def test_a_planted_rotation_is_found_in_its_set_and_in_no_other(base: Plain, toward: str) -> None:
    rows = task_gains(energies(base, tuned_of(base, toward, strength=3.0)))
    significant = rows[rows["p_holm"] < 0.05]
    assert significant[["vectors", "task"]].to_numpy().tolist() == [["value", toward]]
    assert significant["excess"].iloc[0] > 0.005
    assert significant["ci_low"].iloc[0] > 0
    changes = task_changes(energies(base, tuned_of(base, toward, strength=3.0)))
    assert changes[changes["p_holm"] < 0.05][["vectors", "task"]].to_numpy().tolist() == [["value", toward]]


def test_noise_alone_is_not_found(base: Plain) -> None:
    found = energies(base, tuned_of(base, noise=0.3))
    assert (task_gains(found)["p_holm"] > 0.05).all()
    assert float(np.abs(found["gain"]).max()) > 0.001


def test_a_change_of_few_directions_has_their_number(base: Plain) -> None:
    found = energies(base, tuned_of(base, "a", strength=1.0, noise=0.0))
    assert found["change_rank"].sel(vectors="value").values.tolist() == [PLANES] * LAYERS
    assert found["change_rank"].sel(vectors="key").values.tolist() == [0] * LAYERS


def test_control_sets_have_the_words_of_every_stratum() -> None:
    rng = np.random.default_rng(0)
    rank, tokens = np.arange(2000), rng.integers(1, 4, 2000)
    parts = rng.choice(["noun", "verb", ""], 2000).tolist()
    stratum = strata(rank, parts, tokens)
    assert stratum.min() == 0
    assert np.bincount(stratum)[np.unique(stratum)].min() >= 10 or (np.log2(1 + rank) < 4).any()
    band = np.log2(1 + rank).astype(int)
    assert all(len(set(band[stratum == number])) == 1 for number in np.unique(stratum))
    members = np.zeros(2000, dtype=bool)
    members[rng.choice(2000, 60, replace=False)] = True
    drawn = matched_draws(stratum, members, draws=50, seed=1)
    assert drawn.shape == (50, 60)
    expected = np.bincount(stratum[members], minlength=stratum.max() + 1).tolist()
    for row in drawn:
        assert len(set(row.tolist())) == 60
        assert np.bincount(stratum[row], minlength=stratum.max() + 1).tolist() == expected
    assert part_of_speech("algorithm") == "noun"
    assert part_of_speech("qqqzz") == ""


def test_topics_are_as_coherent_as_their_set() -> None:
    vectors, topic = clustered(np.random.default_rng(5))
    stratum = np.zeros(len(vectors), dtype=int)
    tight, loose = topic == 3, np.random.default_rng(1).permutation(topic == 3)
    drawn = topic_draws(vectors, {"tight": tight, "loose": loose}, stratum, draws=200, seed=0)
    for name, members in (("tight", tight), ("loose", loose)):
        goal, got = float(coherence(vectors[members])), float(coherence(vectors[drawn[name]]).mean())
        assert got == pytest.approx(goal, rel=0.2, abs=0.03), name
    assert float(coherence(vectors[tight])) > 4 * float(coherence(vectors[loose]))


def clustered(
    rng: np.random.Generator, topics: int = 12, size: int = 25, width: int = 40
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors in topics, centred, and the topic of each."""
    topic = np.repeat(np.arange(topics), size)
    vectors = rng.normal(size=(topics, width))[topic] + rng.normal(size=(topics * size, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors - vectors.mean(0), topic


def test_the_null_keeps_its_level_for_a_topic_and_words_alone_do_not() -> None:
    """A random rotation has no task; the words of one topic move together all the same."""
    rng, drawn_p = np.random.default_rng(0), []
    for draw in range(200):
        vectors, topic = clustered(rng)
        spans = [np.linalg.qr(rng.normal(size=(40, 10)))[0] for _ in range(2)]
        by_word = np.square(vectors @ spans[1]).sum(1) - np.square(vectors @ spans[0]).sum(1)
        norm, members = np.square(vectors).sum(1), topic == 0
        stratum = np.zeros(len(vectors), dtype=int)
        controls = {
            "matched": matched_draws(stratum, members, draws=99, seed=draw),
            "topic": topic_draws(vectors, {"one": members}, stratum, draws=99, seed=draw)["one"],
        }
        gain = by_word[members].sum() / norm[members].sum()
        null = {name: by_word[sets].sum(1) / norm[sets].sum(1) for name, sets in controls.items()}
        drawn_p.append([permutation_p(float(gain), null[name]) for name in ("matched", "topic")])
    p = np.array(drawn_p)
    assert (p.max(1) <= 0.05).mean() <= 0.09  # 0.05 and two standard errors of 200 draws
    assert (p[:, 0] <= 0.05).mean() > 0.2  # why matched words are not enough


def test_matched_words_keep_their_level_for_unrelated_words() -> None:
    rng, values = np.random.default_rng(2), []
    for draw in range(200):
        by_word = rng.normal(size=400)
        members = np.zeros(400, dtype=bool)
        members[rng.choice(400, 30, replace=False)] = True
        sets = matched_draws(np.arange(400) // 100, members, draws=99, seed=draw)
        values.append(permutation_p(float(by_word[members].mean()), by_word[sets].mean(1)))
    assert 0.01 <= (np.array(values) <= 0.05).mean() <= 0.09


# ---- sets of words


def test_the_built_in_sets_have_sixty_words_of_the_built_in_vocabulary() -> None:
    sets = loaded_task_sets("builtin").words
    assert list(sets) == ["daily", "literary", "professional", "mathematics", "coding", "translation"]
    known = set(Vocabulary.load("builtin").words)
    assert min(len(set(words) & known) for words in sets.values()) >= 60
    every = [word for words in sets.values() for word in words]
    assert len(every) == len(set(every)), "a word is in two tasks"


def test_files_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "sets.json").write_text(json.dumps({"one": ["cat", "dog"]}))
    (tmp_path / "sets.txt").write_text("one: cat, dog\n\ntwo: red  blue\n")
    assert dict(loaded_task_sets(tmp_path / "sets.json").words) == {"one": ("cat", "dog")}
    assert dict(loaded_task_sets(tmp_path / "sets.txt").words) == {"one": ("cat", "dog"), "two": ("red", "blue")}
    given = loaded_task_sets({"one": ["cat", "dog"]})
    assert given.fingerprint == loaded_task_sets(tmp_path / "sets.json").fingerprint
    assert given.fingerprint != loaded_task_sets({"one": ["cat"]}).fingerprint


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("cat dog\n", "sets.txt", "line 1 is 'cat dog'; expected a name, a colon, and words"),
        ("[1, 2]", "sets.json", "holds no sets of words"),
        ('{"one": "cat"}', "sets.json", "is no list of words"),
        ("", "sets.txt", "holds no sets of words"),
    ],
)
def test_files_that_hold_no_sets(tmp_path: Path, content: str, name: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(StoreError, match=message):
        loaded_task_sets(tmp_path / name)


def test_bad_sets_and_pairs(base: Plain) -> None:
    with pytest.raises(ProbeError, match=r"The set 'few' has 3 known words \(of 4\); expected at least 10"):
        energies(base, base, {"few": ["w1", "w2", "w3", "unknown"]})
    with pytest.raises(ProbeError, match="None of the built-in word sets has 10 words of this vocabulary"):
        itlens.task_energy(base, base, vocab=Vocabulary(WORDS), progress=False)  # type: ignore[arg-type]
    with pytest.raises(ProbeError, match="task_words is a int"):
        loaded_task_sets(3)
    other = Plain(base.embedding, base.mlps, base.tokenizer, facts=base.facts | {"d_model": 64})
    with pytest.raises(PairError, match="d_model 48 and 64"):
        energies(base, other)
    with pytest.raises(ResultError, match=r"itlens\.task_energy"):
        task_gains(xr.Dataset())


# ---- in a study


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("task-words")
    return tiny_folder(root / "base", "llama", seed=0), tiny_folder(root / "tuned", "llama", seed=1)


def test_a_study_reads_the_components_that_it_has(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    own = probe.principal_components
    monkeypatch.setattr(probe, "principal_components", lambda rows, count: counted.append(count) or own(rows, count))
    held = itlens.compare(*folders, probes=["mlp", "task_words"], out=tmp_path / "both", **small())
    assert len(counted) == 2 * 2  # the change alone, of two kinds in two layers
    options = small()
    alone = itlens.task_energy(
        *map(itlens.open_weights, folders), options["task_words"], options["vocabulary"], seed=3, progress=False
    )
    assert len(counted) == 2 * 2 + 3 * 2 * 2
    xr.testing.assert_allclose(held.results["task_words"]["task_energy"], alone, atol=1e-5)


def test_too_few_known_words_end_the_command_before_models_load(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sets.txt").write_text("few: cat dog\n")
    refused = Commands(monkeypatch, capsys).refused(
        "compare", *folders, "--probes", "task_words", "--out", tmp_path / "out", "--task-words", tmp_path / "sets.txt"
    )
    assert "The set 'few' has 2 known words (of 2); expected at least 10" in refused
