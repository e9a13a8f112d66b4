"""What a selftest works on: a model with its prompts, responses, words, and the places that can be planted into."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from itlens.errors import PromptError
from itlens.planted.altering import Altered
from itlens.planted.choices import Choices
from itlens.planted.detectors import Setup
from itlens.planted.plants import Ground, Place
from itlens.probes.running.forced import Forced, forced
from itlens.probes.running.hooking import run_hooked
from itlens.prompts import Prompt
from itlens.vocabulary import Vocabulary, WordVectors
from itlens.weights import weights_of


def set_up(model: Any, prompts: list[Prompt], asked: Choices) -> Setup:
    """Everything that does not depend on plants. Raises a subclass of ItlensError for what cannot be tested."""
    facts = weights_of(model).facts
    count = int(facts["layers"])
    layers = sorted({round(x) for x in np.linspace(0, count - 1, min(count, asked.most_layers))})
    for layer in layers:
        weights_of(model).mlp(layer)  # mixtures of experts are refused by name
    read = _read(model, prompts, asked)
    vocabulary = Vocabulary.load("builtin", size=asked.words)
    return Setup(
        altered=Altered(model),
        ground=Ground(model, asked.noise, _mean_posts(model, read, layers)),
        prompts=[one.prompt for one in read],
        layers=layers,
        tokens=_tokens(model, vocabulary, read),
        vocabulary=vocabulary,
        vectors=WordVectors.load("builtin", words=vocabulary.words),
        seed=asked.seed,
    )


def place_of(setup: Setup, plant: str, kind: str, repeat: int) -> Place:
    """Where a plant goes in a repeat: drawn from the seed, the plant's name and the repeat's number alone."""
    draw = random.Random(f"{setup.seed} {plant} {repeat}")
    if kind == "token":
        return Place(-1, draw.choice(setup.tokens))
    layer = draw.choice(setup.layers)
    return Place(layer, draw.randrange(int(setup.model.cfg.n_heads)) if kind == "head" else -1)


class _Read:
    """A prompt with the model's own response, as text and as tokens."""

    def __init__(self, prompt: Prompt, one: Forced) -> None:
        self.prompt = prompt.replace(id=one.id, response=one.encoded.response_text)
        self.forced = one


def _read(model: Any, prompts: list[Prompt], asked: Choices) -> list[_Read]:
    """The shortest prompts of each group that the model answers; it may end some responses before they begin."""
    found: list[_Read] = []
    refused: PromptError | None = None
    for prompt in _by_turns(prompts):
        try:
            (one,) = forced(model, prompt.replace(response=None), max_new_tokens=asked.targets)
        except PromptError as error:
            refused = error
            continue
        if one.encoded.response_text.strip():
            found.append(_Read(prompt, one))
        if len(found) == asked.limit:
            break
    if not found:
        raise refused or PromptError("The model answers none of the prompts with text; give other prompts.")
    return found


def _by_turns(prompts: list[Prompt]) -> list[Prompt]:
    """The shortest prompt of every group, then the second shortest of every group ..."""
    places: dict[str, int] = {}
    turns = []
    for prompt in sorted(prompts, key=lambda prompt: len(prompt.text)):
        places[prompt.group] = places.get(prompt.group, -1) + 1
        turns.append((places[prompt.group], len(prompt.text)))
    ordered = sorted(prompts, key=lambda prompt: len(prompt.text))
    return [ordered[number] for number in sorted(range(len(turns)), key=turns.__getitem__)]


def _mean_posts(model: Any, read: list[_Read], layers: list[int]) -> dict[int, torch.Tensor]:
    """The mean over the tokens of all prompts of what each layer's neurons emit."""
    sums: dict[int, Any] = dict.fromkeys(layers, 0)
    device = next(model.parameters()).device

    def adder(layer: int) -> Any:
        def add(value: torch.Tensor, hook: Any) -> None:  # a bridge's hook has a name of its own
            sums[layer] = sums[layer] + value[0].float().sum(dim=0)

        return add

    hooks = [(f"blocks.{layer}.mlp.hook_post", adder(layer)) for layer in layers]
    with torch.no_grad():
        for one in read:
            run_hooked(model, torch.tensor([one.forced.read], device=device), hooks)
    tokens = sum(len(one.forced.read) for one in read)
    return {layer: sums[layer] / tokens for layer in layers}


def _tokens(model: Any, vocabulary: Vocabulary, read: list[_Read]) -> list[int]:
    """Tokens of the prompts that are a whole word of the vocabulary; all tokens of the prompts where none is."""
    there = {token for one in read for token in one.forced.encoded.prompt_ids}
    known = vocabulary.token_ids(weights_of(model).tokenizer)
    single = np.flatnonzero(np.diff(known.start) == 1)
    words = {int(known.ids[known.start[word]]) for word in single}
    return sorted(there & words) or sorted(there)
