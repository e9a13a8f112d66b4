"""What a selftest works on: a model with its prompts, responses, words, and the units that can be planted into."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from itlens.errors import PromptError
from itlens.findings.detector import Setup, Unit, UnitKind
from itlens.hooked.hooks import run_hooked
from itlens.hooked.tokens import Forced, forced
from itlens.models import HookedModel
from itlens.planted.altering import Altered, PlantableModel
from itlens.planted.choices import Choices
from itlens.planted.plants import Ground
from itlens.prompts import Prompt
from itlens.vocabulary import Vocabulary, WordVectors
from itlens.weights import weights_of


@dataclass(frozen=True)
class PlantingSetup(Setup):
    """What detectors share, and what plants are made of. tokens: ids that are planted into."""

    altered: Altered  # type: ignore[assignment]  # more than what detectors ask of it
    ground: Ground
    tokens: list[int]


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
        ground=Ground(model, choices.noise, _mean_posts(model, read, layers)),
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


def _mean_posts(model: HookedModel, read: list[Forced], layers: list[int]) -> dict[int, torch.Tensor]:
    """Return the mean, over the tokens of all prompts, of the activations of each layer's neurons."""
    sums: dict[int, torch.Tensor | int] = dict.fromkeys(layers, 0)
    device = next(model.parameters()).device

    def adder(layer: int) -> Callable[..., None]:
        def add(value: torch.Tensor, hook: object) -> None:  # a bridge's hook has a class of its own
            sums[layer] = sums[layer] + value[0].float().sum(dim=0)

        return add

    hooks = [(f"blocks.{layer}.mlp.hook_post", adder(layer)) for layer in layers]
    with torch.no_grad():
        for prompt in read:
            run_hooked(model, torch.tensor([prompt.read], device=device), hooks)
    tokens = sum(len(prompt.read) for prompt in read)
    return {layer: torch.as_tensor(sums[layer] / tokens) for layer in layers}


def _tokens(model: HookedModel, vocabulary: Vocabulary, read: list[Forced]) -> list[int]:
    """Return the tokens of the prompts that are a whole word of the vocabulary; where none is, all of their tokens."""
    tokens = {token for prompt in read for token in prompt.encoded.prompt_ids}
    known = vocabulary.token_ids(weights_of(model).tokenizer)
    single = np.flatnonzero(np.diff(known.start) == 1)
    words = {int(known.ids[known.start[word]]) for word in single}
    return sorted(tokens & words) or sorted(tokens)
