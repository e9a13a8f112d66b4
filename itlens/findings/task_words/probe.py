"""How much of a task's words lies in a feed-forward layer's main directions, before and after tuning.

1. WORD VECTORS are the base's, for both models, so that only the layers' rotation counts: the mean, over the tokens of
   " " + word, of W_U's columns (for value vectors) or of W_E's rows (for key vectors), scaled to length 1, less the
   mean over all words of the vocabulary.
2. DIRECTIONS: U_k, the first k principal components of a layer's value vectors (rows of W_out) or key vectors (columns
   of W_in with the norm's gain), orthonormal (`itlens.weights.components`): of the base, of the tuned model, and of
   the change tuned - base. Components of the change below 1e-6 of the first one's variance are rounding, and left out.
3. ENERGY of a set S with word vectors O_S: |U_k^T O_S|^2 / |O_S|^2, Frobenius: the share of its words that lies in the
   span. A random span holds k / d_model. The GAIN of a set is the tuned model's energy less the base's.

Energies are kept word by word (|U_k^T o|^2 and |o|^2), so that any set, and any control set, is a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from itlens.errors import PairError, ProbeError
from itlens.findings.task_words.controls import matched_draws, part_of_speech, strata, topic_draws
from itlens.findings.task_words.energies import Kind, set_energies
from itlens.findings.task_words.sets import TaskSets, known_sets, loaded_task_sets
from itlens.models.hooked_model import HookedModel
from itlens.progress import late_bar
from itlens.results.provenance import provenance
from itlens.selection import Numbers, chosen
from itlens.vocabulary import Vocabulary
from itlens.vocabulary.word_vectors import loaded_vocabulary
from itlens.weights import Weights, weights_of
from itlens.weights.components import CentredRows, principal_components
from itlens.weights.neurons import finite_rows, mlp_of
from itlens.weights.words import mean_vectors

KINDS: tuple[Kind, ...] = ("value", "key")
KS = (10, 50, 100, 300)
SIDES = ("base", "tuned", "change")
ROUNDING = 1e-6  # of the first component's variance
_SHAPE = ("layers", "d_model", "d_mlp")


def task_energy(
    base: HookedModel | Weights,
    tuned: HookedModel | Weights,
    sets: str | Path | Mapping[str, list[str]] | TaskSets = "builtin",
    vocab: str | Path | Vocabulary = "builtin",
    *,
    layers: Numbers = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Return the energy of sets of words in both models' feed-forward directions, with control sets; see the module.

    base, tuned: models, or their `Weights` (`itlens.open_weights`). sets: "builtin" (six tasks), a JSON or text file,
    or words by name. vocab: the words that control sets are drawn from, and that sets are cut to. layers: numbers;
    default all. seed: of the control sets.

    Returns a Dataset. energy (vectors, set, layer, k, side), side in base, tuned, change; gain (vectors, set, layer,
    k) = tuned - base; null_gain and null_change (vectors, set, control, draw): of control sets "matched" and "topic"
    (`itlens.findings.task_words.controls`), mean over layers (null_change: over
    those that changed), at attrs["quoted_k"]; null_layers (vectors, set, layer):
    the mean gain of the matched sets; words (set), coherence (vectors, set), change_rank (vectors, layer). Raises
    PairError for models of other shapes, ProbeError for a set of fewer than 10 known words.
    """
    pair = checked_shapes(weights_of(base, "task_energy"), weights_of(tuned, "task_energy"))
    numbers = chosen("layer", layers, pair[0].facts["layers"])
    found = {}
    with late_bar("task words", show=progress) as tell:
        for place, kind in enumerate(KINDS):
            words = TaskWords(*pair, loaded_task_sets(sets), loaded_vocabulary(vocab), vectors=kind, seed=seed)
            read = []
            for done, layer in enumerate(numbers, start=1):
                read.append(words.read(layer))
                tell(place * len(numbers) + done, len(KINDS) * len(numbers))
            found[kind] = words.controls(), xr.concat(read, dim="layer", combine_attrs="override")
    return set_energies(found)


def checked_shapes(base: Weights, tuned: Weights) -> tuple[Weights, Weights]:
    """Return the pair. Raises PairError for models of other shapes."""
    shapes = [{name: weights.facts.get(name) for name in _SHAPE} for weights in (base, tuned)]
    if other := [name for name in _SHAPE if shapes[0][name] != shapes[1][name]]:
        found = "; ".join(f"{name} {shapes[0][name]} and {shapes[1][name]}" for name in other)
        raise PairError(f"task_energy got two models of other shapes ({found}); expected a base and one tuned from it.")
    return base, tuned


class TaskWords:
    """The words of one kind of vectors, looked up once for all layers of a pair."""

    def __init__(
        self, base: Weights, tuned: Weights, sets: TaskSets, vocab: Vocabulary, *, vectors: Kind, seed: int
    ) -> None:
        self._pair, self._kind, self._seed = (base, tuned), vectors, seed
        self._sets_name, self._vocab = sets.name, vocab
        raw = mean_vectors(base, vocab, embedding="output" if vectors == "value" else "input")
        sizes = torch.linalg.vector_norm(raw, dim=1, keepdim=True)
        kept = (torch.isfinite(sizes) & (sizes > 0))[:, 0]
        unit = raw[kept] / sizes[kept]
        self._vectors = (unit - unit.mean(0)).float()
        self._rank = np.flatnonzero(kept.cpu().numpy())
        self._words = [vocab.words[place] for place in self._rank]
        self._sets = known_sets(sets, self._words)
        tokens = vocab.token_ids(base.tokenizer)
        self._tokens = np.diff(tokens.start)[self._rank]

    def controls(self) -> xr.Dataset:
        """Return what sets and control sets are: norm (word), member (set, word); matched and topic (draw, place):
        the words of each draw's control sets, set by set."""
        parts = [part_of_speech(word) for word in self._words]
        stratum = strata(self._rank, parts, self._tokens)
        place = {word: number for number, word in enumerate(self._words)}
        member = np.zeros((len(self._sets), len(self._words)), dtype=bool)
        for row, words in enumerate(self._sets.values()):
            member[row, [place[word] for word in words]] = True
        vectors = self._vectors.cpu().numpy()
        masks = dict(zip(self._sets, member, strict=True))
        topics = topic_draws(vectors, masks, stratum, seed=self._seed)
        matched = {
            task: matched_draws(stratum, mask, seed=self._seed + number)
            for number, (task, mask) in enumerate(masks.items())
        }
        rows = {
            name: np.concatenate([draws[task] for task in masks], axis=1)
            for name, draws in (("matched", matched), ("topic", topics))
        }
        return xr.Dataset(
            {
                "norm": ("word", np.square(vectors).sum(1)),
                "member": (("set", "word"), member),
                **{name: (("draw", "place"), row.astype(np.int32)) for name, row in rows.items()},
            },
            coords={"word": self._words, "set": list(masks)},
            attrs=self._attrs(),
        )

    def read(self, layer: int, known: tuple[np.ndarray, np.ndarray] | None = None) -> xr.Dataset:
        """Return energy (layer, side, k, word): |U_k^T o|^2, and change_rank (layer).

        known: both models' components of this layer and kind as rows, where somebody has them already.
        """
        rows = [finite_rows(mlp_of(weights, layer), self._kind, layer) for weights in self._pair]
        sizes = subspace_sizes(*rows[0].matrix.shape)
        count = max(sizes)
        if not all(bool((side.matrix != side.matrix[:1]).any()) for side in rows):
            raise ProbeError(f"All {self._kind} vectors of layer {layer} are the same; they have no components.")
        if known is not None and min(len(side) for side in known) >= count:
            sides = [torch.as_tensor(side[:count]) for side in known]
        else:
            sides = [principal_components(CentredRows(*side), count).directions for side in rows]
        change = _change(*rows)
        moved = torch.zeros(0, self._vectors.shape[1])
        if bool(change.any()):
            found = principal_components(CentredRows(change, torch.ones_like(rows[0].gain)), count)
            moved = found.directions[found.squares > ROUNDING * found.squares[0]]
        energy = np.stack([self._energy(directions, sizes) for directions in (*sides, moved)])
        if not len(moved):
            energy[2] = np.nan
        return xr.Dataset(
            {
                "energy": (("layer", "side", "k", "word"), energy[None]),
                "change_rank": ("layer", np.array([len(moved)])),
            },
            coords={"layer": [layer], "side": list(SIDES), "k": sizes, "word": self._words},
            attrs=self._attrs(),
        )

    def _energy(self, directions: Tensor, sizes: list[int]) -> Float[np.ndarray, "k words"]:
        vectors = self._vectors
        inside = (vectors @ directions.to(vectors.device, torch.float32).T).square().cumsum(1)
        if not inside.shape[1]:
            return np.zeros((len(sizes), len(vectors)), dtype=np.float32)
        return np.stack([inside[:, min(k, inside.shape[1]) - 1].cpu().numpy() for k in sizes])

    def _attrs(self) -> dict[Any, Any]:
        base, tuned = self._pair
        said = {"base_model": base.attrs["model"], "tuned_model": tuned.attrs["model"]}
        width = int(base.facts["d_model"])
        return provenance(
            "task_energy", **said, vectors=self._kind, sets=self._sets_name, vocabulary=self._vocab.name,
            d_model=width, seed=self._seed,
        )  # fmt: skip


def subspace_sizes(neurons: int, width: int) -> list[int]:
    """Return the dimensions k of the spans: KS, cut to a quarter of the width and to the rank."""
    most = max(1, min(neurons - 1, width // 4))
    return sorted({min(k, most) for k in KS})


def _change(base: Any, tuned: Any) -> Float[Tensor, "neurons d_model"]:
    """Return the change of the rows, gains folded in; exactly 0 where nothing changed."""
    before, now = base.matrix.float(), tuned.matrix.float()
    gain, new = base.gain.float(), tuned.gain.float()
    return (now - before) * gain + now * (new - gain)
