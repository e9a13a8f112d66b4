"""Logit difference: which tokens does tuning make more likely, and less, wherever a text is continued?

Both models read texts. At every position, with d_v = logit_T(v) - logit_B(v) less its MEDIAN over the vocabulary (of
more than 4,096 tokens: over so many that are drawn once). A token that stays is exactly 0: what is smaller than the
rounding of logits counts as 0. (Less the mean, one raised token would lower all others by a hair, in every text.)
1. risen, fallen: share of positions at which v is among the `top` tokens of the largest (smallest) d, and d_v is above
   (below) 0
2. text_mean over the means of d_v of texts, with its 95 % interval (t); mean over positions, of the difference less its
   mean over the vocabulary
3. sign test over TEXTS: of those in which the mean of d_v is not 0, in how many is it above? Two-sided,
   Benjamini-Hochberg over the tokens that differ in six texts at least (fewer signs have no p below 0.05, whichever
   they are); per group of texts as well
4. likely: share of positions at which v is among a model's ten most probable tokens. Tokens that neither model would
   ever say move as well (bytes, pieces of rare words), often most of all
5. themes of what rises together, of tokens that are likely in the tuned model at 0.05 % of the positions at least
   (`probe_themes`)
Each model runs once per text, one in memory at a time: its last residual streams go to disk, and its unembedding. Both
are then read together, some positions and a piece of the vocabulary at a time: what is kept is a few numbers for each
token, and the `top` tokens of each position. The mean over the vocabulary needs no logits: it is linear in W_U (except
where a model caps its logits; then the vocabulary is read twice). The median reads its tokens first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy import stats

from itlens.errors import ProbeError
from itlens.findings.logit_diff.diff import SAID
from itlens.findings.logit_diff.probe_themes import RisenTokens, themes_of
from itlens.hooked.cache import ActivationCache, activation_cache
from itlens.hooked.corpus import Corpus, CorpusText, corpus_of
from itlens.hooked.hooks import run_hooked
from itlens.hooked.pair_inputs import as_pair, comparable
from itlens.hooked.readout import Readout, refuse_other_readout, save_readout
from itlens.hooked.tokens import Forced
from itlens.models import HookedModel, ModelPair, source_attrs, source_of
from itlens.models.memory import room_for
from itlens.models.precision import as_numbers, exact
from itlens.models.running import undisturbed
from itlens.progress import Counted, late_bar
from itlens.prompts.texts import TextsLike
from itlens.results.provenance import provenance
from itlens.selection import whole_number
from itlens.stats.paired import adjust
from itlens.tokenization import token_text
from itlens.weights.words import TopWords

MINIMUM = 6  # texts that a test needs: all signs of five being the same has p = 0.0625
_ROWS = 1024  # positions that are read together: the unembeddings come from the disk once for all of them
_LIKELY = 10  # tokens that a model would say at a position
_WIDE = 8192  # tokens among which the largest are looked for at a time
_SIDES = ("base", "tuned")
_MEDIAN_OF = 4096  # tokens
_ROUNDING = 16  # times the precision of the largest logit: differences up to this are 0


def logit_diff(
    pair: ModelPair | tuple[HookedModel, HookedModel],
    texts: TextsLike | Sequence[Forced] = "builtin",
    *,
    top: int = 100,
    themes: int = 6,
    max_tokens: int = 256,
    seed: int = 0,
    prepend_bos: bool | None = None,
    cache: str | Path | None = None,
    progress: bool | Callable[[int, int], None] = True,
) -> xr.Dataset:
    """Find the tokens whose logits tuning raised and lowered, over all positions of texts.

    pair: a `ModelPair` or (base, tuned). texts: "builtin", a file with a text a line, a list of texts, of `Prompt`
    objects (each with its response, where it has one), or of `Forced`. top: tokens that count as risen at a position;
    at most half of the vocabulary. themes: groups of tokens that rise together, 0 for none (needs scikit-learn, extra
    "themes"). max_tokens: of a text, longer ones are cut. seed: of the themes and of
    the tokens whose median is taken. cache: a folder for streams and
    unembeddings, removed in the end. progress: a bar, none, or a function of (done, all).

    Returns a Dataset on (token), token the id: word, mean (over all positions, of the logit difference less its mean
    over the vocabulary); less its median: risen, fallen (shares of positions), text_mean, text_low, text_high (mean
    over texts and its 95 % interval), share_texts, share_below (of texts with a mean above, below 0), p, p_bh (sign
    test; NaN under 6 texts); likely_base, likely_tuned (shares of positions). On (group, token), where texts have
    groups: group_mean, group_share, group_below (as share_texts, share_below), group_p, group_p_bh. On (theme,
    theme_rank): theme_token (id, -1 for none), theme_word, theme_weight; on (theme): theme_share (of all that rises);
    on (theme, group): theme_group (of what rises in the group). attrs: positions, texts. Everything is exactly 0
    between identical models, and p is 1.

    Raises PairError (other tokenizers, other shapes), PromptError (no texts, an empty one), ProbeError (a model whose
    last step is of an unknown kind, numbers that are not finite).
    """
    limit, count = whole_number("max_tokens", max_tokens, 1), whole_number("themes", themes, 0)
    both = as_pair(pair)
    report = comparable(both)
    corpus = corpus_of(both, report, texts, most=limit, prepend_bos=prepend_bos)
    size = int(min(report.base["vocabulary"], report.tuned["vocabulary"]))
    most = min(whole_number("top", top, 1), max(1, size // 2))
    readouts, attrs = {}, {}
    with activation_cache(cache) as folder, late_bar("logit difference", show=progress is True) as bar:
        tell = Counted(progress if callable(progress) else bar, 3 * len(corpus))
        for side in _SIDES:
            model = getattr(both, side)
            readouts[side], attrs[side] = _record(model, side, corpus, size, folder, tell), source_attrs(model)
            device, tokenizer = next(model.parameters()).device, source_of(model).tokenizer
            del model  # it would stay in memory while the other one runs
        sums = _Sums.of(corpus, size)
        risen = RisenTokens(sum(text.count for text in corpus))
        sample = np.sort(np.random.default_rng(seed).permutation(size)[:_MEDIAN_OF])
        for batch in _batches(corpus):
            _read(batch, corpus, readouts, folder, device, most, sample, sums, risen)
            tell(len(batch))
    said = {f"{side}_{name}": value for side in _SIDES for name, value in attrs[side].items()}
    settings = {"top": most, "themes": count, "max_tokens": limit, "seed": seed, "vocabulary": size}
    found, why = themes_of(risen, sums.likely["tuned"] >= SAID * sums.positions, count, sums.groups, seed=seed)
    read = {"texts": len(corpus), "positions": sums.positions, "note": corpus.note, "note_themes": why}
    dataset = sums.dataset().merge(found)
    words = [token_text(tokenizer, id) for id in range(size)]
    dataset["word"] = ("token", np.array(words, dtype=object))
    ids = dataset["theme_token"].values
    named = [words[id] if id >= 0 else "" for id in ids.ravel().tolist()]
    dataset["theme_word"] = (("theme", "theme_rank"), np.array(named, dtype=object).reshape(ids.shape))
    return dataset.assign_attrs(provenance("logit_diff", **said, **settings, **read))


def _record(model: HookedModel, side: str, corpus: Corpus, size: int, cache: ActivationCache, tell: Counted) -> Readout:
    """Run a model over the texts; its last residual streams at their positions go to disk."""
    readout = save_readout(model, cache, side, size)
    device, kept = next(model.parameters()).device, []

    def keep(value: torch.Tensor, hook: object) -> None:
        kept.append(value[0].detach())

    point = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    with undisturbed(model), torch.no_grad():
        for number, text in enumerate(corpus):
            with room_for(model, f"text {text.id!r}", len(text.read)):
                logits = run_hooked(model, torch.tensor([text.read], device=device), [(point, keep)])[0]
            stream = kept.pop()
            if number == 0:
                refuse_other_readout(readout, model, stream[:1], logits, remedy="leave this finding out")
            if not bool(torch.isfinite(stream).all()):
                raise ProbeError(
                    f"The last residual stream of {source_of(model).name} is not finite on text {text.id!r}; load the "
                    'model with dtype="float32" or check its weights.'
                )
            cache.put(f"{side}-streams", str(number), stream[text.front :])
            tell()
    return readout


def _batches(corpus: Sequence[CorpusText]) -> Iterator[list[int]]:
    """Yield numbers of whole texts that are read together."""
    batch: list[int] = []
    rows = 0
    for number, text in enumerate(corpus):
        if batch and rows + text.count > _ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(number)
        rows += text.count
    yield batch


def _read(
    batch: Sequence[int],
    corpus: Corpus,
    readouts: dict[str, Readout],
    cache: ActivationCache,
    device: torch.device,
    top: int,
    sample: np.ndarray,
    sums: _Sums,
    risen: RisenTokens,
) -> None:
    """Add the positions of some texts to the sums. sample: the tokens whose median is taken."""
    normed = {}
    for side, readout in readouts.items():
        stream = torch.cat([cache.get(f"{side}-streams", str(number)) for number in batch]).to(device)
        normed[side] = readout.normalised(stream)
    counts = torch.tensor([corpus[number].count for number in batch], device=device)
    of_text = torch.repeat_interleave(torch.arange(len(batch), device=device), counts)
    centre = _centre(readouts["tuned"], normed["tuned"]) - _centre(readouts["base"], normed["base"])
    median, rounding = _median(readouts, normed, sample)
    beyond_mean = float((exact(median) - centre).sum())
    found = {name: TopWords(_LIKELY if name in _SIDES else top, absolute=False) for name in (*_SIDES, "up", "down")}
    wide: dict[str, list[torch.Tensor]] = {name: [] for name in (*_SIDES, "up")}
    start = 0
    for of_base, of_tuned in zip(readouts["base"].pieces(), readouts["tuned"].pieces(), strict=True):
        base, tuned = (
            readouts[side].logits(normed[side], *piece[1:]) for side, piece in (("base", of_base), ("tuned", of_tuned))
        )
        d = tuned - base - median[:, None]
        total = as_numbers(d.sum(dim=0)) + beyond_mean
        d[d.abs() <= rounding[:, None]] = 0
        means = torch.zeros(len(batch), d.shape[1], dtype=d.dtype, device=device).index_add_(0, of_text, d)
        sums.add(of_base[0], total, as_numbers(means / counts[:, None]), batch)
        for name, piece in (("base", base), ("tuned", tuned), ("up", d)):
            wide[name].append(piece)
        if of_base[0].stop - start >= _WIDE or of_base[0].stop == readouts["base"].size:
            joined = {name: torch.cat(pieces, dim=1) for name, pieces in wide.items()}
            for name, largest in found.items():
                largest.add(-joined["up"] if name == "down" else joined[name], start)
            wide, start = {name: [] for name in wide}, of_base[0].stop
    best = {name: [each.cpu().numpy() for each in largest.best()] for name, largest in found.items()}
    for side in _SIDES:
        sums.likely[side] += np.bincount(best[side][0].ravel(), minlength=sums.size)
    for sign, name in ((1, "up"), (-1, "down")):
        sums.counted[sign] += np.bincount(best[name][0][best[name][1] > 0], minlength=sums.size)
    groups = np.array([corpus[number].group for number in batch], dtype=object)
    risen.add(best["up"][0], best["up"][1], np.repeat(groups, counts.cpu().numpy()))


def _centre(readout: Readout, normed: torch.Tensor) -> torch.Tensor:
    """Return the mean over the vocabulary of the logits at each position, float64."""
    total = exact(torch.zeros(len(normed), device=normed.device))
    if readout.cap > 0:
        for _, rows, bias in readout.pieces():
            total = total + exact(readout.logits(normed, rows, bias)).sum(dim=1)
        return total / readout.size
    mean, offset = exact(torch.zeros(normed.shape[1], device=normed.device)), 0.0
    for _, rows, bias in readout.pieces():
        mean, offset = mean + exact(rows.to(normed.device)).sum(dim=0), offset + float(exact(bias).sum())
    return (exact(normed) @ mean.to(total.device) + offset) / readout.size


def _median(
    readouts: dict[str, Readout], normed: dict[str, torch.Tensor], sample: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the median over some tokens of the logit differences at each position, and what rounding makes of 0."""
    logits = {}
    for side, readout in readouts.items():
        rows, bias = (readout.cache.rows(readout.file, name, sample.tolist()) for name in ("W_U", "b_U"))
        logits[side] = readout.logits(normed[side], rows, bias)
    largest = torch.maximum(*(logits[side].abs().amax(dim=1) for side in _SIDES))
    difference = logits["tuned"] - logits["base"]
    return difference.median(dim=1).values, _ROUNDING * torch.finfo(difference.dtype).eps * largest


@dataclass
class _Sums:
    """What is added up: over positions and over texts, for each token; by group where there are groups."""

    size: int
    groups: list[str]
    of_text: list[int]
    total: np.ndarray
    texts: np.ndarray
    squares: np.ndarray
    above: np.ndarray
    below: np.ndarray
    by_group: np.ndarray
    counted: dict[int, np.ndarray]
    likely: dict[str, np.ndarray]
    positions: int = 0
    group_sizes: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, corpus: Corpus, size: int) -> _Sums:
        groups = [name for name in dict.fromkeys(text.group for text in corpus) if name]
        of_text = [groups.index(text.group) if text.group else -1 for text in corpus]
        sizes = np.array([of_text.count(number) for number in range(len(groups))])
        return cls(
            size=size,
            groups=groups,
            of_text=of_text,
            **{name: np.zeros(size) for name in ("total", "texts", "squares", "above", "below")},
            by_group=np.zeros((3, len(groups), size), dtype=np.float32),
            counted={1: np.zeros(size), -1: np.zeros(size)},
            likely={side: np.zeros(size) for side in _SIDES},
            positions=sum(text.count for text in corpus),
            group_sizes=sizes,
        )

    def add(self, at: slice, total: np.ndarray, means: np.ndarray, batch: Sequence[int]) -> None:
        """Add one piece of the vocabulary. total: sums over positions; means (text, token)."""
        self.total[at] += total
        self.texts[at] += means.sum(axis=0)
        self.squares[at] += (means**2).sum(axis=0)
        self.above[at] += (means > 0).sum(axis=0)
        self.below[at] += (means < 0).sum(axis=0)
        for row, number in enumerate(batch):
            if (group := self.of_text[number]) >= 0:
                self.by_group[:, group, at] += np.stack([means[row], means[row] > 0, means[row] < 0])

    def dataset(self) -> xr.Dataset:
        """Return the numbers of each token."""
        n = len(self.of_text)
        mean = self.texts / n
        spread = np.sqrt(np.clip(self.squares / n - mean**2, 0, None) * n / max(1, n - 1))
        reach = stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n) if n >= MINIMUM else np.full(self.size, np.nan)
        p = sign_test(self.above, self.below, n)
        numbers = {
            "mean": self.total / self.positions,
            "risen": self.counted[1] / self.positions,
            "fallen": self.counted[-1] / self.positions,
            "text_mean": mean,
            "text_low": mean - reach,
            "text_high": mean + reach,
            "share_texts": self.above / n,
            "p": p,
            "share_below": self.below / n,
            "p_bh": _adjusted(p, self.above + self.below),
            **{f"likely_{side}": self.likely[side] / self.positions for side in _SIDES},
        }
        variables: dict[str, Any] = {name: ("token", values) for name, values in numbers.items()}
        sums, above, below = self.by_group
        tests = [sign_test(above[g], below[g], int(count)) for g, count in enumerate(self.group_sizes)]
        shape = (len(self.groups), self.size)
        of_groups = {
            "group_mean": sums / np.maximum(self.group_sizes, 1)[:, None],
            "group_p": np.array(tests).reshape(shape),
            "group_p_bh": np.array([_adjusted(p, above[g] + below[g]) for g, p in enumerate(tests)]).reshape(shape),
            "group_share": above / np.maximum(self.group_sizes, 1)[:, None],
            "group_below": below / np.maximum(self.group_sizes, 1)[:, None],
        }
        variables |= {name: (("group", "token"), values.astype(np.float32)) for name, values in of_groups.items()}
        coords = {
            "token": np.arange(self.size),
            "group": np.array(self.groups, dtype=object),
            "group_texts": ("group", self.group_sizes),
        }
        return xr.Dataset(variables, coords=coords)


def sign_test(above: np.ndarray, below: np.ndarray, texts: int) -> np.ndarray:
    """Return the two-sided p of as many texts above as below 0; 1 where none is either, NaN under `MINIMUM` texts."""
    if texts < MINIMUM:
        return np.full(np.shape(above), np.nan)
    return np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(above, below), above + below, 0.5))


def _adjusted(p: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Correct by Benjamini and Hochberg over the tokens with as many signs as a p below 0.05 needs; others keep p."""
    family, out = signs >= MINIMUM, p.copy()
    out[family] = adjust(p[family], "fdr_bh")
    return out
