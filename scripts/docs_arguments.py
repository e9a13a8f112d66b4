"""Argument tables in the reference: a griffe extension for mkdocstrings.

Docstrings of itlens describe arguments in running text, "name: what it is. other, third: what they are.". Here the
sentences that begin with the names of parameters (or, for a class, of its attributes) become a section that
mkdocstrings draws as a table with name, type, description and default. What is not about an argument stays text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import griffe

# Arguments that mean the same wherever they occur; a docstring that describes one itself is followed instead.
COMMON = {
    "adapter": "A PEFT adapter that is merged into the (tuned) model.",
    "agreement": "What `itlens.diff.head_agreement` returned.",
    "alpha": "Level of significance.",
    "backend": '"hooked" (HookedTransformer) or "bridge" (TransformerBridge).',
    "baseline": "Number of words, from the most frequent, that thresholds of relatedness are taken over.",
    "check": "Load the model and compare its logits with Hugging Face's.",
    "components": "Number of components, by decreasing variance.",
    "comparison": "What `itlens.compare` returned, or its run folder.",
    "deviations": "Standard deviations above the mean from which a cosine counts as related.",
    "device": '"cpu", "cuda" or "mps"; None: cuda where there is one.',
    "dtype": "Precision of weights and activations.",
    "executor": '"local": this machine, one model at a time; "ray": the workers of a Ray cluster.',
    "fig": "A plotly figure.",
    "group": 'Which group of prompts (or layers); "all" for all.',
    "head": "The head, from 0.",
    "heads": "Heads, from 0: a number, several, or None for all.",
    "height": "Pixels.",
    "layer": "The layer, from 0.",
    "layers": "Layers, from 0: a number, several, or None for all.",
    "levels": "Number of levels of an attribution (L of the importance density).",
    "limit": "Number of prompts, from the first; None: all.",
    "max_new_tokens": "Largest number of tokens of a generated response.",
    "method": '"input_x_gradient", "saliency" or "integrated_gradients".',
    "minimum": "Fewest prompts (or heads) of a group that is tested.",
    "model": "What `itlens.load_model` returned.",
    "model_or_weights": "What `itlens.load_model` returned, or an `itlens.weights.Weights`.",
    "name_or_path": "A hub id, a local folder or a .gguf file.",
    "options": "Further options, as those of `itlens.compare`.",
    "out": "Where to write.",
    "p": "Power of the importance density's norm.",
    "patched": "What `itlens.patch` returned.",
    "path": "A file or folder.",
    "prepend_bos": "Whether a BOS token is put in front; None: the tokenizer's own rule.",
    "probes": 'A finding\'s name, several, or "all".',
    "progress": "Whether to show progress, or a function of (done, all).",
    "prompts": "`itlens.Prompt` objects, or what `itlens.load_prompts` reads.",
    "rendered_at": "The time that a chat template with a clock writes.",
    "resamples": "Number of resamples.",
    "response": "The response; None: the model's own greedy continuation.",
    "result": "A result of the function that this one belongs to.",
    "resume": "Keep what is finished in `out`.",
    "revision": "Revision on the hub.",
    "seed": "Seed of random draws; the same seed gives the same numbers.",
    "shift": "What `itlens.activation_shift` returned.",
    "side": "Old name of `vectors`.",
    "signed": "Keep the two ends of a component (or both signs of an activation) apart.",
    "statistic": "Which statistic.",
    "temperature": "Of the chat model; 0 takes its likeliest answer.",
    "threshold": "Levels up to this one count as 0 (b of the importance density).",
    "title": "Heading.",
    "tokenizer": "A Hugging Face tokenizer.",
    "top": "How many to show, or to compare.",
    "top_k": "Number of words.",
    "trust_remote_code": "Run code that comes with the model.",
    "vectors": "Word vectors that say what is related, or the kind of vectors of a layer (value, key, gate).",
    "vocab": 'Words: "builtin", a file, or an `itlens.Vocabulary`.',
}

_START = re.compile(r"(?:(?<=^)|(?<=[.;] ))((?:\*{0,2}[A-Za-z_]\w*)(?:(?:, | and )\*{0,2}[A-Za-z_]\w*)*): (?=\S)")


def with_section(text: str, names: Collection[str], heading: str, common: Mapping[str, str] | None = None) -> str:
    """Return a docstring whose sentences on `names` are a section with this heading, in Google's style, at the end.

    names: in the order of the table. common: what to say of those that the docstring does not describe.
    """
    kept: list[str] = []
    found: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if any(line.startswith("    ") for line in paragraph.splitlines()):  # code or a list: as it is
            kept.append(paragraph)
            continue
        before, described = _split(" ".join(paragraph.split()), names)
        if before:
            kept.append(before)
        for name, words in described:
            found.setdefault(name, words)
    found = {name: words for name in names if (words := found.get(name) or (common or {}).get(name))}
    if not found:
        return text
    lines = [f"    {name}: {words}" for name, words in found.items()]
    return "\n\n".join([*kept, "\n".join([f"{heading}:", *lines])])


def _split(paragraph: str, names: Collection[str]) -> tuple[str, list[tuple[str, str]]]:
    """Return what is before the first description in a paragraph, and (name, description) for each."""
    starts = [
        match
        for match in _START.finditer(paragraph)
        if all(name.lstrip("*") in names for name in re.split(r", | and ", match[1]))
    ]
    if not starts:
        return paragraph, []
    described: list[tuple[str, str]] = []
    for place, match in enumerate(starts):
        end = starts[place + 1].start() if place + 1 < len(starts) else len(paragraph)
        words = paragraph[match.end() : end].strip().rstrip(";")
        words, raises, rest = words.partition(" Raises ")
        words = words[:1].upper() + words[1:]
        described += [(name.lstrip("*"), words) for name in re.split(r", | and ", match[1])]
        if raises:
            described.append(("", f"Raises {rest}"))
    before = paragraph[: starts[0].start()].strip()
    tail = [words for name, words in described if not name]
    return " ".join(filter(None, [before, *tail])), [(name, words) for name, words in described if name]


class ArgumentTables(griffe.Extension):
    """Rewrites docstrings of functions and classes before they are parsed."""

    def on_function_instance(self, *, func: griffe.Function, **kwargs: Any) -> None:
        """Arguments of a function."""
        if func.docstring is not None:
            names = [parameter.name.lstrip("*") for parameter in func.parameters]
            func.docstring.value = with_section(func.docstring.value, names, "Args", COMMON)

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Attributes of a class."""
        if cls.docstring is not None:
            names = [name for name, member in cls.members.items() if member.is_attribute]
            cls.docstring.value = with_section(cls.docstring.value, names, "Attributes")
