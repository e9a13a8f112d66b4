"""Token shift: both models read the tuned model's response; where does the base rank what the tuned model wrote?

For each token o_t of a response to the prompt q, with the next-token distributions P_B and P_T after q, o_<t:
1. rank r_t = 1 + #{v : P_B(v) > P_B(o_t)}: unshifted r = 1, marginal r = 2 or 3, shifted r > 3  (Lin et al. 2023)
2. KL_t = sum_v P_T(v) (ln P_T(v) - ln P_B(v)), nats, over the whole vocabulary              (Qi et al. 2024)
3. the base's five most probable tokens. A response that its model ended has its end as one token more.
Each model runs once per prompt, one in memory at a time: its last residual stream at the response's positions goes to
disk, and its unembedding. Both are then read together, piece by piece of the vocabulary.

B. Y. Lin et al., The Unlocking Spell on Base LLMs, arXiv 2312.01552; X. Qi et al., Safety Alignment Should Be Made
More Than Just a Few Tokens Deep, arXiv 2406.05946.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from itlens.errors import ProbeError
from itlens.findings.token_shift.probe_kinds import token_kinds
from itlens.hooked.cache import ActivationCache, activation_cache
from itlens.hooked.hooks import run_hooked
from itlens.hooked.pair_inputs import as_pair, asked_sides, comparable, forced_pair, refuse_beyond_either
from itlens.hooked.readout import Readout, RunningSoftmax, refuse_other_readout, save_readout
from itlens.hooked.response import stop_ids
from itlens.hooked.tokens import Forced, left_out_attrs, with_ends
from itlens.models import HookedModel, ModelPair, source_attrs, source_of
from itlens.models.compatibility import PairReport
from itlens.models.memory import room_for
from itlens.models.precision import as_numbers
from itlens.models.running import undisturbed
from itlens.progress import Counted, late_bar
from itlens.prompts import PromptsLike
from itlens.results.provenance import provenance
from itlens.selection import whole_number
from itlens.tokenization import Tokenizer, token_text

CHOICES = 5  # of the base's most probable tokens that are kept
_ROWS = 1024  # positions that are read together: the unembeddings come from the disk once for all of them
_NUMBERS = ("rank", "rank_tuned", "p_base", "p_tuned", "kl")


def token_shift(
    pair: ModelPair | tuple[HookedModel, HookedModel],
    prompts: PromptsLike | Sequence[Forced],
    max_new_tokens: int = 200,
    *,
    responses: Literal["tuned", "base", "given"] = "tuned",
    format: str = "raw",
    prepend_bos: bool | None = None,
    cache: str | Path | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> xr.Dataset:
    """Rank each token of a response under both models of a pair, on the same tokens.

    pair: a `ModelPair` or (base, tuned). prompts: texts, `Prompt` objects, or a list of `Forced`. max_new_tokens: at
    most so many tokens are generated. responses: whose greedy response both read, "tuned" (what the formulas mean) or
    "base", or "given" (the prompts' own). format: as in `format_prompts`; a chat template is the tuned model's. cache:
    a folder for residual streams and unembeddings, which are removed in the end; default the system's. progress: a
    bar, none, or a function of (done, all).

    Returns a Dataset on (prompt, position), position from 0, NaN or "" past a response's end: rank (1 = the base's
    first choice), rank_tuned (the same under the tuned model), p_base, p_tuned, kl (tuned || base, nats), token,
    token_id (-1 past the end), kind ("function word", "content word", "punctuation", "format", "end of text"), start,
    stop (characters of the response); with choice (1 to 5) behind: base_top, base_top_p, the base's most probable
    tokens. On (prompt): length, finish, prompt_text, response_text, tokens_digest, group. Where one vocabulary is
    longer, everything is over the ids that both have, and attrs["note"] says so; prompts whose generated response is
    empty are left out, and named there.

    Raises PairError (other tokenizers, other shapes), PromptError (a text that one model cannot read, no response),
    ProbeError (unknown option, a model whose last step is of an unknown kind, numbers that are not finite).
    """
    first, second = _order(responses)
    count = whole_number("max_new_tokens", max_new_tokens, 1)
    both = as_pair(pair)
    report = comparable(both)
    size = int(min(report.base["vocabulary"], report.tuned["vocabulary"]))
    context = int(min(report.base["context"], report.tuned["context"]))
    with activation_cache(cache) as folder, late_bar("token shift", show=progress is True) as bar:
        read = forced_pair(
            both, prompts, responses, asked_sides("base->tuned" if first == "base" else "tuned->base", responses),
            format=format, max_new_tokens=count, prepend_bos=prepend_bos, progress=progress is True,
        )  # fmt: skip
        refuse_beyond_either(read, report)
        tell = Counted(progress if callable(progress) else bar, 3 * len(read))
        writer = getattr(both, first)
        texts = with_ends(read, stop_ids(source_of(writer), size), context)
        recorded = {first: _record(writer, first, texts, size, folder, tell)}
        texts = recorded[first].prompts
        del writer  # it would stay in memory while the other model runs
        other = getattr(both, second)
        recorded[second] = _record(other, second, texts, size, folder, tell)
        device, tokenizer = next(other.parameters()).device, source_of(other).tokenizer
        rows = list(_read(texts, recorded, folder, device, tell))
    attrs = {f"{side}_{name}": value for side in ("base", "tuned") for name, value in recorded[side].attrs.items()}
    said = left_out_attrs(read)
    settings = {"responses": responses, "format": format, "max_new_tokens": count, "vocabulary": size}
    notes = {"note": "; ".join(filter(None, (said["note"], _padding(report, size))))}
    return _dataset(texts, rows, tokenizer, {**attrs, **settings, **said, **notes})


def _order(responses: object) -> tuple[str, str]:
    """Return which model runs first: the one that generates, so that each is loaded once. Raises ProbeError."""
    known = ("tuned", "base", "given")
    if responses not in known:
        raise ProbeError(f"responses={responses!r} is unknown; expected one of {', '.join(map(repr, known))}.")
    return ("base", "tuned") if responses == "base" else ("tuned", "base")


@dataclass(frozen=True)
class _Recorded:
    """What is kept of a model besides its streams. prompts: their ends as the model that wrote them has it."""

    readout: Readout
    attrs: dict[str, str]
    prompts: list[Forced]


def _record(
    model: HookedModel, side: str, prompts: Sequence[Forced], size: int, cache: ActivationCache, tell: Counted
) -> _Recorded:
    """Run a model over the prompts; its last residual stream where targets are predicted goes into the cache."""
    readout = save_readout(model, cache, side, size)
    stops = stop_ids(source_of(model), size)
    kept: list[Forced] = []
    with undisturbed(model):
        for number, prompt in enumerate(prompts):
            with room_for(model, f"prompt {prompt.id!r}", len(prompt.read)):
                stream, logits = _run(model, prompt)
            if number == 0:
                refuse_other_readout(readout, model, stream[:1], logits[:1], remedy="leave this finding out")
            if not bool(torch.isfinite(stream).all()):
                raise ProbeError(
                    f"The last residual stream of {source_of(model).name} is not finite on prompt {prompt.id!r}; load "
                    'the model with dtype="float32" or check its weights.'
                )
            cache.put(f"{side}-streams", str(number), stream)
            kept.append(prompt.with_end(stops, logits[-1]))
            tell()
    return _Recorded(readout, source_attrs(model), kept)


def _run(model: HookedModel, prompt: Forced) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last residual stream (target, d_model), and the logits at the first and last target."""
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor, hook: object) -> None:
        kept.append(value[0, list(prompt.positions)].detach())

    tokens = torch.tensor([prompt.read], device=next(model.parameters()).device)
    point = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    with torch.no_grad():
        logits = run_hooked(model, tokens, [(point, keep)], positions=[prompt.positions[0], prompt.positions[-1]])[0]
    return kept[0], logits


def _read(
    prompts: Sequence[Forced],
    recorded: dict[str, _Recorded],
    cache: ActivationCache,
    device: torch.device,
    tell: Counted,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the numbers of each prompt, by position: `_NUMBERS`, and ids and probabilities of the base's top."""
    readouts = {side: recorded[side].readout for side in ("base", "tuned")}
    for batch in _batches(prompts):
        streams = {
            side: torch.cat([cache.get(f"{side}-streams", str(number)) for number in batch]).to(device)
            for side in readouts
        }
        wide = max((stream.dtype for stream in streams.values()), key=lambda dtype: dtype.itemsize)
        normed = {side: readouts[side].normalised(streams[side].to(wide)) for side in readouts}
        ids = torch.tensor([id for number in batch for id in prompts[number].targets], device=device)
        own = {side: readouts[side].of_ids(normed[side], ids) for side in readouts}
        running = {
            "base": RunningSoftmax(own["base"], [], CHOICES),
            "tuned": RunningSoftmax(own["tuned"], ["base"], 1),
        }
        for of_base, of_tuned in zip(readouts["base"].pieces(), readouts["tuned"].pieces(), strict=True):
            pieces = {"base": of_base, "tuned": of_tuned}
            logits = {side: readouts[side].logits(normed[side], *pieces[side][1:]) for side in readouts}
            for side in readouts:
                running[side].add(pieces[side][0].start, side, logits, ids)
        statistics = _statistics(running)
        start = 0
        for number in batch:
            stop = start + len(prompts[number].targets)
            yield {name: values[start:stop] for name, values in statistics.items()}
            tell()
            start = stop


def _batches(prompts: Sequence[Forced]) -> Iterator[list[int]]:
    """Yield numbers of prompts whose positions are read together."""
    batch: list[int] = []
    rows = 0
    for number, prompt in enumerate(prompts):
        if batch and rows + len(prompt.targets) > _ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(number)
        rows += len(prompt.targets)
    yield batch


def _statistics(running: dict[str, RunningSoftmax[str]]) -> dict[str, np.ndarray]:
    base, tuned = running["base"], running["tuned"]
    top = (base.highest.to(base.log_total) - base.log_total[:, None]).exp()
    tensors = {
        "rank": base.rank,
        "rank_tuned": tuned.rank,
        "p_base": base.logprob.exp(),
        "p_tuned": tuned.logprob.exp(),
        "kl": tuned.divergence("base", base),
        "top": base.top,
        "top_p": top,
    }
    return {name: as_numbers(value) for name, value in tensors.items()}


def _padding(report: PairReport, size: int) -> str:
    """Return what is left out where one vocabulary is longer; "" where both are the same."""
    more = {side: int(getattr(report, side)["vocabulary"]) - size for side in ("base", "tuned")}
    said = [f"the {side} model has {count:,} more" for side, count in more.items() if count]
    if not said:
        return ""
    return f"ranks, probabilities and divergences are over the {size:,} tokens that both models have; {said[0]}"


def _dataset(
    prompts: Sequence[Forced], rows: Sequence[dict[str, np.ndarray]], tokenizer: Tokenizer, attrs: dict[str, Any]
) -> xr.Dataset:
    longest = max(len(prompt.targets) for prompt in prompts)
    shape = (len(prompts), longest)
    numbers = {name: np.full(shape, np.nan) for name in _NUMBERS}
    whole = {name: np.full(shape, -1, dtype=np.int64) for name in ("token_id", "start", "stop")}
    words = {name: np.full(shape, "", dtype=object) for name in ("token", "kind")}
    top, top_p = np.full((*shape, CHOICES), "", dtype=object), np.full((*shape, CHOICES), np.nan)
    texts: dict[int, str] = {}
    for place, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        known, count = prompt.encoded, len(prompt.targets)
        at, ended = (place, slice(0, count)), prompt.is_ended
        for name in _NUMBERS:
            numbers[name][at] = row[name]
        ends = [len(known.response_text)] if ended else []
        ranges = list(zip(known.response_start, known.response_stop, strict=True))
        whole["token_id"][at] = prompt.targets
        whole["start"][at], whole["stop"][at] = [*known.response_start, *ends], [*known.response_stop, *ends]
        shown = [*known.response_tokens, *(token_text(tokenizer, prompt.targets[-1]) for _ in ends)]
        words["token"][at] = shown
        words["kind"][at] = token_kinds(known.response_text, ranges, ended=ended)
        for id in {*row["top"].astype(int).ravel().tolist()} - {*texts}:
            texts[id] = token_text(tokenizer, id)
        top[at] = [[texts[id] for id in ids] for ids in row["top"].astype(int).tolist()]
        top_p[at] = row["top_p"]
    grid, by_choice = ("prompt", "position"), ("prompt", "position", "choice")
    of_prompts = {
        "group": [prompt.group for prompt in prompts],
        "finish": [prompt.finish for prompt in prompts],
        "prompt_text": [prompt.encoded.prompt_text for prompt in prompts],
        "response_text": [prompt.encoded.response_text for prompt in prompts],
        "tokens_digest": [prompt.digest for prompt in prompts],
    }
    return xr.Dataset(
        {name: (grid, values) for name, values in {**numbers, **whole, **words}.items()}
        | {"base_top": (by_choice, top), "base_top_p": (by_choice, top_p)},
        coords={
            "prompt": np.array([prompt.id for prompt in prompts], dtype=object),
            "position": np.arange(longest),
            "choice": np.arange(1, CHOICES + 1),
            "length": ("prompt", np.array([len(prompt.targets) for prompt in prompts])),
            **{name: ("prompt", np.array(values, dtype=object)) for name, values in of_prompts.items()},
        },
        attrs=provenance("token_shift", **attrs),
    )
