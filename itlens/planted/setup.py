"""What a selftest works on: its settings, checked before any model is loaded (each mistake is one sentence), and then a
model with its prompts, responses, words, and the units that can be planted into.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch

from itlens.errors import ItlensError, ProbeError, PromptError
from itlens.findings import findings
from itlens.findings.detector import Detector, Setup, Unit, UnitKind
from itlens.hooked.hooks import BEFORE_UNEMBED, run_hooked
from itlens.hooked.tokens import Forced, forced
from itlens.models import HookedModel
from itlens.planted.altering import Altered, PlantableModel
from itlens.planted.plants import PLANTS, Ground
from itlens.planted.scoring import pairs_needed
from itlens.prompts import Prompt
from itlens.vocabulary import Vocabulary, WordVectors
from itlens.weights import weights_of

STRENGTHS = (0.25, 2.0, 16.0, 64.0)
_LAST = -1  # stands for what enters the unembedding, among layers
_READS = ("weights", "weight_pair", "prompts", "pair")  # from fast to slow
_USUAL = {"repeats": 20, "calibration": 30, "limit": 5, "targets": 6, "words": 2000, "most_layers": 6}
_THOROUGH = {"repeats": 100, "calibration": 99, "limit": 12, "targets": 16, "words": 4000, "most_layers": 1000}


def all_detectors() -> dict[str, type[Detector]]:
    """Return the detectors of all findings by name: first of those that read weights, then prompts, then both models.

    Raises ItlensError where two findings have a detector of the same name.
    """
    detectors: dict[str, type[Detector]] = {}
    for finding in sorted(findings().values(), key=lambda finding: _READS.index(finding.reads)):
        for detector in finding.detectors():
            if detector.name in detectors:
                raise ItlensError(f"{finding.name}: a detector called {detector.name!r} is there already; rename it.")
            detectors[detector.name] = detector
    return detectors


class Choices(NamedTuple):
    """The settings of a selftest; see `itlens.selftest`."""

    detectors: Mapping[str, type[Detector]]
    plants: Sequence[str]
    strengths: Sequence[float]
    noise: float
    repeats: int
    calibration: int
    level: float
    limit: int
    targets: int
    words: int
    most_layers: int
    seed: int

    @property
    def probes(self) -> list[str]:
        """The names of the detectors."""
        return list(self.detectors)

    @classmethod
    def of(
        cls,
        probes: str | Sequence[str],
        plants: str | Sequence[str],
        strengths: float | Sequence[float] | None,
        *,
        thorough: bool,
        **numbers: float | None,
    ) -> Choices:
        """Return checked settings. Raises ProbeError."""
        usual = _THOROUGH if thorough else _USUAL
        chosen: dict[str, Any] = {name: usual.get(name) if value is None else value for name, value in numbers.items()}
        for name in ("repeats", "limit", "targets", "words", "most_layers"):
            chosen[name] = _whole(name, chosen[name], 1)
        chosen["seed"] = _whole("seed", chosen["seed"], 0)
        for name, highest in (("noise", 1.0), ("level", 0.5)):
            chosen[name] = _number(name, chosen[name], highest)
        needed = pairs_needed(chosen["level"])
        chosen["calibration"] = _whole("calibration", chosen["calibration"], needed, f" for level={chosen['level']:g}")
        known = all_detectors()
        detectors = {name: known[name] for name in _names("probe", probes, known)}
        plants = _names("plant", plants, PLANTS)
        _refuse_unseen(detectors, plants, known)
        return cls(detectors=detectors, plants=plants, strengths=_strengths(strengths), **chosen)


def _names(what: str, chosen: str | Sequence[str], known: Iterable[str]) -> list[str]:
    listed = list(known)
    if isinstance(chosen, str):
        chosen = listed if chosen == "all" else [name.strip() for name in chosen.split(",")]
    names = list(chosen) if isinstance(chosen, Iterable) else [chosen]
    unknown = [name for name in names if name not in listed]
    if unknown or not names:
        got = f"Unknown {what} {unknown[0]!r}" if unknown else f"No {what} is requested"
        raise ProbeError(f'{got}; expected "all" or some of {", ".join(listed)}.')
    return [name for name in listed if name in names]


def _refuse_unseen(
    detectors: Mapping[str, type[Detector]], plants: Sequence[str], known: Mapping[str, type[Detector]]
) -> None:
    """Raise ProbeError where no probe is meant to see any of the plants: there would be no recall to report."""
    seen = {plant for detector in detectors.values() for plant in detector.sees}
    if not seen & set(plants):
        able = [name for name, detector in known.items() if set(detector.sees) & set(plants)]
        raise ProbeError(
            f"{' and '.join(detectors)}: not meant to see {' or '.join(plants)}; add one of the probes "
            f"{', '.join(able)}, or one of the plants {', '.join(name for name in PLANTS if name in seen)}."
        )


def _strengths(chosen: float | Sequence[float] | None) -> list[float]:
    values = STRENGTHS if chosen is None else chosen
    values = list(values) if isinstance(values, Iterable) else [values]
    wrong = [value for value in values if not _is_strength(value)]
    if wrong or not values:
        got = f"strength {wrong[0]!r}" if wrong else "no strengths"
        raise ProbeError(f"Got {got}; expected numbers above 0 (1: as large as the noise).")
    return sorted({float(value) for value in values})


def _is_strength(value: float) -> bool:
    try:
        return not isinstance(value, (bool, str)) and 0 < float(value) < math.inf
    except (TypeError, ValueError):
        return False


def _whole(name: str, value: object, least: int, reason: str = "") -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ProbeError(f"{name}={value!r}; expected a whole number of at least {least}{reason}.")
    return value


def _number(name: str, value: object, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= highest:
        raise ProbeError(f"{name}={value!r}; expected a number above 0 and at most {highest:g}.")
    return float(value)


# ---- the model, its prompts and units


@dataclass(frozen=True)
class PlantingSetup(Setup):
    """What detectors share, and what plants are made of."""

    altered: Altered  # type: ignore[assignment]  # more than what detectors ask of it
    ground: Ground


def set_up(model: PlantableModel, prompts: list[Prompt], choices: Choices) -> PlantingSetup:
    """Return everything that does not depend on plants. Raises a subclass of ItlensError for what cannot be tested."""
    weights = weights_of(model)
    count = int(weights.facts["layers"])
    layers = sorted({round(x) for x in np.linspace(0, count - 1, min(count, choices.most_layers))})
    for layer in layers:
        weights.mlp(layer)  # mixtures of experts are refused by name
    answered = _answered(model, prompts, choices)
    read = [forced_prompt for _, forced_prompt in answered]
    vocabulary = Vocabulary.load("builtin", size=choices.words)
    return PlantingSetup(
        altered=Altered(model),
        ground=Ground(model, choices.noise, *_mean_activations(model, read, layers)),
        prompts=[prompt for prompt, _ in answered],
        layers=layers,
        tokens=_tokens(model, vocabulary, read),
        vocabulary=vocabulary,
        vectors=WordVectors.load("builtin", words=vocabulary.words),
        seed=choices.seed,
    )


def unit_of(setup: PlantingSetup, plant: str, kind: UnitKind, repeat: int) -> Unit:
    """Return the unit of a plant in a repeat: drawn from the seed, the plant's name and the repeat's number alone."""
    draw = random.Random(f"{setup.seed} {plant} {repeat}")
    if kind == "token":
        return Unit(-1, draw.choice(setup.tokens))
    layer = draw.choice(setup.layers)
    return Unit(layer, draw.randrange(int(setup.model.cfg.n_heads)) if kind == "head" else -1)


def _answered(model: HookedModel, prompts: list[Prompt], choices: Choices) -> list[tuple[Prompt, Forced]]:
    """Return the shortest prompts of each group with the model's own response, as text and as tokens.

    A prompt to which the model's response is empty is left out.
    """
    answered: list[tuple[Prompt, Forced]] = []
    refused: PromptError | None = None
    for prompt in _shortest_of_each_group(prompts):
        try:
            (read,) = forced(model, prompt.replace(response=None), max_new_tokens=choices.targets)
        except PromptError as error:
            refused = error
            continue
        response = read.encoded.response_text
        if response.strip():
            answered.append((prompt.replace(id=read.id, response=response), read))
        if len(answered) == choices.limit:
            break
    if not answered:
        raise refused or PromptError("The model answers none of the prompts with text; give other prompts.")
    return answered


def _shortest_of_each_group(prompts: list[Prompt]) -> list[Prompt]:
    """Return the shortest prompt of every group, then the second shortest of every group ..."""
    ordered = sorted(prompts, key=lambda prompt: len(prompt.text))
    ranks: dict[str, int] = {}
    keys = []
    for prompt in ordered:
        ranks[prompt.group] = ranks.get(prompt.group, -1) + 1
        keys.append((ranks[prompt.group], len(prompt.text)))
    return [ordered[number] for number in sorted(range(len(keys)), key=keys.__getitem__)]


def _mean_activations(
    model: HookedModel, read: list[Forced], layers: list[int]
) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """Return means over the tokens of all prompts: of each layer's neurons, and of what enters the unembedding."""
    sums: dict[int, torch.Tensor | int] = dict.fromkeys([*layers, _LAST], 0)
    device = next(model.parameters()).device

    def adder(layer: int) -> Callable[..., None]:
        def add(value: torch.Tensor, hook: object) -> None:  # a bridge's hook has a class of its own
            sums[layer] = sums[layer] + value[0].float().sum(dim=0)

        return add

    hooks = [(f"blocks.{layer}.mlp.hook_post", adder(layer)) for layer in layers]
    hooks.append((BEFORE_UNEMBED, adder(_LAST)))  # it acts before all but one position are cut away
    with torch.no_grad():
        for prompt in read:
            run_hooked(model, torch.tensor([prompt.read], device=device), hooks)
    tokens = sum(len(prompt.read) for prompt in read)
    means = {layer: torch.as_tensor(total / tokens) for layer, total in sums.items()}
    return {layer: means[layer] for layer in layers}, means[_LAST]


def _tokens(model: HookedModel, vocabulary: Vocabulary, read: list[Forced]) -> list[int]:
    """Return the tokens of the prompts that are a whole word of the vocabulary; where none is, all of their tokens."""
    tokens = {token for prompt in read for token in prompt.encoded.prompt_ids}
    known = vocabulary.token_ids(weights_of(model).tokenizer)
    single = np.flatnonzero(np.diff(known.start) == 1)
    words = {int(known.ids[known.start[word]]) for word in single}
    return sorted(tokens & words) or sorted(tokens)
