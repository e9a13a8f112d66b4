"""Template against weights: the same characters come out of five templates, and planted effects find their cause."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import itlens
from itlens import Prompt, PromptError, ResultError
from itlens.diff import content_only, prompt_scores, template_effects, template_verdict
from itlens.findings.attribution.diff_template import template_share
from itlens.prompts import Framed, frame_prompts
from itlens.stats.paired import PAIRED_COLUMNS
from itlens.tokenization import encode
from tests.chat_templates import TEMPLATES
from tests.tiny import tiny_hf_model, tiny_tokenizer

PROMPTS = [
    Prompt("Translate the dog. A river flows.", instruction="Translate the dog.", id="plain", group="a"),
    Prompt(
        "  user: assistant\nList three 👍👍 animals. \n", instruction="List three 👍👍 animals.", id="odd", group="a"
    ),
    Prompt("What is the plural of mouse?", instruction="plural of mouse?", id="end", group="b"),
    Prompt("<|im_start|>user\nGo! [INST]", instruction="Go!", id="trap", group="b"),  # holds what templates write
]
QUICK: dict[str, Any] = {"resamples": 200}
TOKENIZERS = ("bytes", "metaspace")


def made(framed: Framed, tokenizer: Any, value: Any = None, mean: bool = False, **attrs: Any) -> xr.Dataset:
    """A result of the formatted prompt; the score of a token is the sum (or mean) of value[c] over its characters c of
    the original text, so that only characters, never tokens, decide."""
    prompt = framed.prompt
    encoded = encode(tokenizer, prompt.text)
    start, stop = np.array(encoded.prompt_start), np.array(encoded.prompt_stop)
    score = np.ones(start.size) if value is None else _summed(framed, start, stop, np.asarray(value, dtype=float), mean)
    return xr.Dataset(
        {"score": (("source", "target"), np.repeat(score[:, None], 3, axis=1))},
        coords={
            "source_token": ("source", np.array(encoded.prompt_tokens, dtype=object)),
            "source_id": ("source", np.array(encoded.prompt_ids)),
            "source_start": ("source", start),
            "source_stop": ("source", stop),
        },
        attrs={"prompt_id": prompt.id, "prompt_text": prompt.text, "response_text": "", "method": "x"} | attrs,
    )


def _summed(framed: Framed, start: np.ndarray, stop: np.ndarray, value: np.ndarray, mean: bool) -> np.ndarray:
    spread = np.zeros(len(framed.prompt.text))
    first, last = framed.body
    spread[first:last] = value[framed.cut : framed.cut + last - first]
    before = np.concatenate([[0.0], np.cumsum(spread)])
    total = before[stop] - before[start]
    if mean:
        return total / np.maximum(stop - start, 1)
    # the bytes of one character are several tokens on one range, and share its value
    return total / [np.sum((start == one) & (stop == other)) for one, other in zip(start, stop, strict=True)]


def visible(text: str, ds: xr.Dataset) -> set[int]:
    """The characters that the result's tokens cover, white space apart."""
    ranges = zip(ds.source_start.values, ds.source_stop.values, strict=True)
    return {place for start, stop in ranges for place in range(start, stop) if not text[place].isspace()}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_same_content_comes_out_of_every_template(template: str, kind: str) -> None:
    tokenizer = tiny_tokenizer(kind, chat_template=TEMPLATES[template])
    for prompt, framed, raw in zip(
        PROMPTS, frame_prompts(PROMPTS, "chat", tokenizer), frame_prompts(PROMPTS), strict=True
    ):
        value = np.random.default_rng(1).random(len(prompt.text)) * [not c.isspace() for c in prompt.text]
        chat = content_only(made(framed, tokenizer, value), framed, prompt)
        plain = content_only(made(raw, tokenizer, value), raw, prompt)
        assert chat.attrs["prompt_text"] == plain.attrs["prompt_text"] == prompt.text
        everything = {place for place, character in enumerate(prompt.text) if not character.isspace()}
        assert visible(prompt.text, chat) == visible(prompt.text, plain) == everything
        if kind == "metaspace":
            continue  # its tokens reach across words
        # what was given to characters is found on these characters again: by words, which both cut alike
        words = [itlens.to_words(ds) for ds in (chat, plain)]
        shown = [[str(word).strip() for word in ds.source_token.values if str(word).strip()] for ds in words]
        assert shown[0] == shown[1] == prompt.text.split()
        for word in prompt.text.split():
            at = prompt.text.index(word)
            for ds in words:
                here = ds.score.values[(ds.source_start.values <= at) & (at < ds.source_stop.values)]
                np.testing.assert_allclose(here, value[at : at + len(word)].sum(), rtol=1e-9)
        for ds in (chat, plain):
            inside = itlens.span_mask(ds, prompt).values
            (span,) = prompt.instruction
            starts = np.maximum(ds.source_start.values[inside], span[0])
            assert starts.min() == span[0]
            assert ds.source_stop.values[inside].max() == span[1]


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_the_template_wrote_is_left_out_and_weighed(template: str) -> None:
    tokenizer = tiny_tokenizer(chat_template=TEMPLATES[template])
    prompt = PROMPTS[0]
    (framed,) = frame_prompts([prompt], "chat", tokenizer)
    ds = made(framed, tokenizer)
    content = content_only(ds, framed, prompt)
    text, (first, last) = framed.prompt.text, framed.body
    kept = [text[a:b].strip() for a, b in zip(ds.source_start.values, ds.source_stop.values, strict=True)
            if b > first and a < last and text[a:b].strip()]  # fmt: skip
    assert [word for token in content.source_token.values if (word := str(token).strip())] == kept
    outside = ds.sizes["source"] - content.sizes["source"]
    assert outside > 2
    assert template_share(ds, framed) == pytest.approx(outside / ds.sizes["source"])


def four(tokenizer: Any, effects: dict[tuple[str, str], float], prompts: list[Prompt]) -> dict[Any, list[xr.Dataset]]:
    """Results whose instruction gets the share `effects[cell]` (0..1) of tokens that matter."""
    rng, cells = np.random.default_rng(0), {}
    for cell, share in effects.items():
        frames = frame_prompts(prompts, "chat" if cell[1] == "on" else "raw", tokenizer)
        results = []
        for prompt, framed in zip(prompts, frames, strict=True):
            value = np.full(len(prompt.text), 1e-3)
            (start, stop), *_ = prompt.instruction
            value[start : start + round((stop - start) * np.clip(share + 0.05 * rng.standard_normal(), 0, 1))] = 1.0
            results.append(made(framed, tokenizer, value, mean=True, model=f"toy/{cell[0]}"))
        cells[cell] = results
    return cells


def many(count: int = 14) -> list[Prompt]:
    words = ["Translate", "Summarise", "List", "Rewrite"]
    return [
        Prompt(
            f"{words[n % 4]} the following text in {n} words now. A river flows by the old house.",
            instruction=f"{words[n % 4]} the following text in {n} words now.", id=f"p{n}", group="ab"[n % 2],
        )
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("effects", "source"),
    [
        ((0.3, 0.3, 0.8, 0.8), "Most of the change of the instruction score comes from the weights ("),
        ((0.3, 0.8, 0.3, 0.8), "Most of the change of the instruction score comes from the template ("),
        ((0.4, 0.4, 0.4, 0.4), "No significant effect of weights or template on the instruction score ("),
    ],
)
def test_a_planted_cause_is_named(effects: Any, source: str) -> None:
    tokenizer, prompts = tiny_tokenizer(chat_template=TEMPLATES["chatml"]), many()
    keys = [("base", "off"), ("base", "on"), ("tuned", "off"), ("tuned", "on")]
    cells = four(tokenizer, dict(zip(keys, effects, strict=True)), prompts)
    lengths = {cell: {p.id: float(n + 5 * (cell[0] == "tuned")) for n, p in enumerate(prompts)} for cell in keys}
    found = template_effects(
        cells, prompts, frame_prompts(prompts, "chat", tokenizer), statistics={"length": lengths}, **QUICK
    )
    assert template_verdict(found.effects).startswith(source)
    assert repr(found).startswith(source)
    assert found.effects["statistic"].unique().tolist() == ["instruction_score", "response_tokens", "length"]
    assert found.effects["group"].unique().tolist() == ["all", "a", "b"]
    length = found.effects.query("statistic == 'length' and group == 'all'").set_index("effect")
    assert length["mean"].to_dict() == {"weights": 5, "template": 0, "interaction": 0, "total": 5, "balance": 5}
    assert len(found.prompts) == 4 * len(prompts)
    assert found.effects.attrs["tuned_model"] == "toy/tuned"
    off = found.prompts.query("template == 'off'")
    assert off["template_share"].isna().all()
    assert found.template_share["group"].tolist() == ["all", "a", "b"]
    assert found.template_share.columns.tolist() == ["group", *PAIRED_COLUMNS]


def test_the_larger_effect_is_not_named_for_being_the_only_sure_one() -> None:
    """A small sure effect of the weights beside a large unsure one of the template."""
    row = {"group": "all", "n": 12, "note": ""}
    effects = pd.DataFrame(
        [
            row | {"effect": name, "mean": mean, "ci_low": low, "ci_high": high, "p_holm": p}
            for name, mean, low, high, p in (
                ("weights", 0.02, 0.01, 0.03, 0.001), ("template", 0.55, 0.05, 1.04, 0.09),
                ("interaction", 0.0, -0.1, 0.1, 1.0), ("balance", -0.53, -1.03, -0.04, np.nan),
            )
        ]
    )  # fmt: skip
    assert template_verdict(effects).startswith(
        "Only the effect of the weights on the instruction score is significant"
    )
    sure = effects.assign(p_holm=effects["p_holm"].where(effects["effect"] != "template", 0.01))
    assert template_verdict(sure).startswith("Most of the change of the instruction score comes from the template")


def test_scores_are_of_content_alone() -> None:
    """A template token that outshines all others must not change the content's score."""
    tokenizer = tiny_tokenizer(chat_template=TEMPLATES["gemma"])
    (framed,), prompt = frame_prompts(PROMPTS[:1], "chat", tokenizer), PROMPTS[0]
    ds = made(framed, tokenizer, np.random.default_rng(0).random(len(prompt.text)))
    loud = ds.copy(deep=True)
    loud.score[0] = 1e6
    one, other = (prompt_scores([each], [prompt], [framed]).iloc[0] for each in (ds, loud))
    assert one["instruction_score"] == other["instruction_score"] > 0
    assert other["template_share"] == 1.0 > one["template_share"]
    expected = itlens.span_score(
        itlens.importance_density(content_only(ds, framed, prompt)),
        itlens.span_mask(content_only(ds, framed, prompt), prompt),
    )
    assert one["instruction_score"] == expected


def test_real_attributions_of_a_formatted_prompt() -> None:
    tokenizer = tiny_tokenizer(chat_template=TEMPLATES["llama3"])
    model = itlens.load_model(tiny_hf_model("llama"), tokenizer=tokenizer, check=False)
    framed = frame_prompts(PROMPTS[:2], "chat", tokenizer)
    results = {one.prompt.id: itlens.attribute(model, one.prompt, " yes", progress=False) for one in framed}
    table = prompt_scores(results, PROMPTS, framed)
    assert table["id"].tolist() == ["plain", "odd"]
    assert table["instruction_score"].between(0, 10).all()
    assert table["template_share"].between(0, 1).all()
    assert (table["response_tokens"] >= 1).all()


def test_what_does_not_fit_gets_one_sentence() -> None:
    tokenizer, prompts = tiny_tokenizer(chat_template=TEMPLATES["zephyr"]), many(6)
    framed, raw = frame_prompts(prompts, "chat", tokenizer), frame_prompts(prompts)
    keys = [("base", "off"), ("base", "on"), ("tuned", "off"), ("tuned", "on")]
    cells = four(tokenizer, dict.fromkeys(keys, 0.5), prompts)
    with pytest.raises(PromptError, match=r"has no chat template; use format="):
        frame_prompts(prompts, "chat", tiny_tokenizer())
    with pytest.raises(ResultError, match=r"The framed prompts read as the originals do, so there is no template"):
        template_effects(cells, prompts, raw)
    with pytest.raises(ResultError, match="A 2 x 2 needs the cells"):
        template_effects({("base", "off"): cells["base", "off"]}, prompts, framed)
    with pytest.raises(ResultError, match="'p0': the result is of another text than the formatted one"):
        template_effects(cells | {("base", "on"): cells["base", "off"]}, prompts, framed)
    with pytest.raises(ResultError, match=r"The result of prompt 'p5' has no prompt"):
        template_effects(cells, prompts[:5], framed)
    with pytest.raises(ResultError, match="1 prompts are in tuned_on or in base_off only: p5"):
        template_effects(cells | {("tuned", "on"): cells["tuned", "on"][:5]}, prompts, framed)
    with pytest.raises(ResultError, match="'p0' has no instruction tokens"):
        template_effects(cells, [prompt.replace(instruction=()) for prompt in prompts], framed)
    with pytest.raises(ResultError, match="hold 'p0' twice"):
        prompt_scores([cells["base", "off"][0]] * 2, prompts)
