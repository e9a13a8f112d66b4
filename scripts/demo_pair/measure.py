"""Measure the embedded pair and write the figures into its model card.

    python -m scripts.demo_pair.measure [--folder DIR]

Exact match: the model continues each of the 200 held-out prompts greedily; the text up to the first new line or `</s>`,
stripped, must equal the answer. The same rule serves base and tuned. Perplexity: exp of the mean negative
log-likelihood per token of `held_out.txt`; the unigram model gives each token (count + 1) / (total + vocabulary), with
the counts of the pre-training tokens. The float16 weights are loaded as float32.
"""

import argparse
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.demo_pair import tasks

HERE = Path(__file__).parent  # what only training and measuring need: held-out text, token counts, times
PAIR = HERE.parents[1] / "itlens" / "demo"  # the models, their prompts and the model card
BEGIN, END = "<!-- figures: written by scripts.demo_pair.measure -->", "<!-- end of figures -->"
NEW_TOKENS = 40
# What tuning had seen of a prompt: (the kind needs knowledge, its fact is held out, its wording is held out).
SPLITS = {
    "copying, wording used in tuning": (False, False, False),
    "copying, wording never used": (False, False, True),
    "knowledge, fact asked and wording used in tuning": (True, False, False),
    "knowledge, fact never asked": (True, True, False),
    "knowledge, fact never asked and wording never used": (True, True, True),
}


def load(folder: Path) -> tuple:
    """(model in float32, tokenizer) of a folder, without network."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def read_prompts(folder: Path = PAIR) -> list:
    """The records of prompts.jsonl."""
    return [json.loads(line) for line in (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]


@torch.no_grad()
def respond(model: Any, tokenizer: Any, prompts: Iterable[str], batch: int = 40) -> list:
    """Greedy continuations as they come, up to `</s>` or 40 new tokens."""
    prompts, responses = list(prompts), []
    for start in range(0, len(prompts), batch):
        inputs = tokenizer(
            prompts[start : start + batch],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            return_token_type_ids=False,
        )
        output = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
        responses += tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    return responses


def is_exact(response: str, answer: str) -> bool:
    """The first line of the response, stripped, is the answer."""
    return response.split("\n")[0].strip() == answer


@torch.no_grad()
def token_losses(model: Any, tokenizer: Any, text: str) -> tuple:
    """(token ids after `<s>`, the negative log-likelihood of each) of a text, cut to the context length."""
    longest = model.config.max_position_embeddings
    ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=longest).input_ids
    logits = model(ids[:, :-1]).logits[0]
    losses = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
    return ids[0, 1:].numpy(), losses.numpy()


def held_out_texts(folder: Path = HERE) -> list:
    """The documents of held_out.txt, which blank lines part."""
    return (folder / "held_out.txt").read_text(encoding="utf-8").strip().split("\n\n")


def perplexity(model: Any, tokenizer: Any, texts: list) -> float:
    """exp of the mean loss per token."""
    return math.exp(np.concatenate([token_losses(model, tokenizer, text)[1] for text in texts]).mean())


def unigram_perplexity(tokenizer: Any, texts: list, counts: np.ndarray) -> float:
    """The same for the add-one unigram model of the pre-training tokens."""
    log_probability = np.log((counts + 1) / (counts.sum() + len(counts)))
    ids = [token for text in texts for token in tokenizer(text).input_ids[1:]]
    return math.exp(-log_probability[ids].mean())


def share(hits: list) -> float:
    """Share of hits, rounded to three places."""
    return round(sum(hits) / len(hits), 3)


def split_shares(exact: dict, samples: dict) -> dict:
    """Exact match by what tuning had seen: {split: (share, prompts)}."""
    hits: dict[tuple, list] = {wanted: [] for wanted in SPLITS.values()}
    for name, sample in samples.items():
        hits[sample.kind in tasks.KNOWLEDGE, sample.word_held_out, sample.wording_held_out].append(exact[name])
    return {split: (share(hits[wanted]), len(hits[wanted])) for split, wanted in SPLITS.items()}


def size(folder: Path) -> int:
    """Bytes of the pair: both model folders and the files beside them, without program text."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc"))


def measure(folder: Path = PAIR, beside: Path = HERE) -> dict:
    """All figures of the pair in `folder`, with the held-out text and token counts in `beside`."""
    records, texts = read_prompts(folder), held_out_texts(beside)
    samples = dict(zip((r["id"] for r in records), tasks.held_out_samples(), strict=True))
    figures: dict[str, Any] = {}
    by_kind: dict[str, dict[str, Any]] = {kind: {} for kind in tasks.KINDS}
    for name in ("base", "tuned"):
        model, tokenizer = load(folder / name)
        responses = respond(model, tokenizer, [r["prompt"] for r in records])
        exact = {r["id"]: is_exact(response, r["answer"]) for r, response in zip(records, responses, strict=True)}
        figures[f"{name} exact match"] = share(list(exact.values()))
        figures[f"{name} perplexity"] = round(perplexity(model, tokenizer, texts), 1)
        for kind in by_kind:
            by_kind[kind][name] = share([exact[r["id"]] for r in records if r["group"] == kind])
    counts = np.load(beside / "unigram_counts.npy")
    figures["unigram perplexity"] = round(unigram_perplexity(tokenizer, texts, counts), 1)
    figures["parameters"] = model.num_parameters()
    figures["bytes"] = size(folder)
    return {"figures": figures, "kinds": by_kind, "splits": split_shares(exact, samples)}


def tables(result: dict, training: dict) -> str:
    """The figures as Markdown."""
    lines = ["| figure | value |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in {**result["figures"], **training}.items()]
    lines += [
        "",
        "Exact match by kind of task (ten prompts each):",
        "",
        "| kind | tuned | base |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {kind} | {row['tuned']:.1f} | {row['base']:.1f} |" for kind, row in result["kinds"].items()]
    lines += ["", "The tuned model, by what tuning had seen (all facts are in the pre-training text):"]
    lines += ["", "| prompts with | exact match | prompts |", "| --- | --- | --- |"]
    lines += [f"| {name} | {value:.2f} | {count} |" for name, (value, count) in result["splits"].items()]
    return "\n".join(lines)


def read_card(card: Path = PAIR / "README.md") -> dict:
    """The figures in the model card: {figure: text of the value}."""
    block = card.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    first = block.strip().split("\n\n")[0].splitlines()[2:]
    cells = (line.strip("|").split("|", 1) for line in first)
    return {figure.strip(): value.strip() for figure, value in cells}


def write_card(card: Path, text: str) -> None:
    """Put the text between the markers of the model card."""
    head, rest = card.read_text(encoding="utf-8").split(BEGIN)
    card.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the embedded pair.")
    parser.add_argument("--folder", type=Path, default=PAIR, help="folder with base/, tuned/ and prompts.jsonl")
    parser.add_argument("--beside", type=Path, default=HERE, help="folder with held_out.txt, unigram_counts.npy ...")
    options = parser.parse_args()
    folder, beside = options.folder, options.beside
    training = json.loads((beside / "training.json").read_text(encoding="utf-8"))
    text = tables(measure(folder, beside), {name.replace("_", " "): value for name, value in training.items()})
    if (folder / "README.md").exists():
        write_card(folder / "README.md", text)
    print(text)


if __name__ == "__main__":
    main()
