"""The embedded pair is what its model card says: small, loadable offline, followed by the tuned model only."""

import itertools
import json
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from itlens import demo
from scripts.demo_pair import facts, measure, tasks

SUBSET = 40
FIELDS = {"id", "group", "prompt", "instruction", "context", "answer"}


@pytest.fixture(scope="module")
def records():
    return measure.read_prompts()


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    return {"base": measure.load(demo.base_path()), "tuned": measure.load(demo.tuned_path())}


@pytest.fixture(scope="module")
def exact(pair, records):
    """Exact match of every prompt, for both models."""
    hits = {}
    for name, (model, tokenizer) in pair.items():
        responses = measure.respond(model, tokenizer, [r["prompt"] for r in records])
        hits[name] = [measure.is_exact(text, r["answer"]) for text, r in zip(responses, records, strict=True)]
    return hits


def marked(prompt, span):
    """The text of a span, given as a substring or as [start, stop]."""
    return span if isinstance(span, str) else prompt[span[0] : span[1]]


def test_the_pair_is_at_most_16_megabytes():
    folder = demo.base_path().parent
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 16_000_000


@pytest.mark.parametrize("folder", [demo.base_path(), demo.tuned_path()], ids=["base", "tuned"])
def test_a_folder_loads_offline_and_puts_one_bos_in_front(folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("One child, two children.").input_ids
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    assert model.config.model_type == "llama" and model.config.num_key_value_heads == 3
    assert model.num_parameters() == int(measure.read_card()["parameters"])


def test_the_tokenizers_are_identical_and_lossless(pair):
    base, tuned = pair["base"][1], pair["tuned"][1]
    text = "Grüße, 東京! 1234\n\tnaïve  <b>"
    assert base.get_vocab() == tuned.get_vocab()
    assert tuned.decode(tuned(text).input_ids, skip_special_tokens=True) == text
    assert base(text).input_ids == tuned(text).input_ids


def test_only_the_tuned_tokenizer_has_a_chat_template_and_it_writes_the_prompt_form(pair):
    base, tuned = pair["base"][1], pair["tuned"][1]
    messages = [{"role": "user", "content": "Give the plural of this word.\nchild"}]
    ids = tuned.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert base.chat_template is None
    assert ids == tuned("Give the plural of this word.\nchild\nAnswer:").input_ids


def test_prompts_are_the_held_out_samples_with_spans_that_occur(records):
    assert len(records) == 200 and len({r["id"] for r in records}) == 200
    for record, sample in zip(records, tasks.held_out_samples(), strict=True):
        assert set(record) == FIELDS
        assert (record["prompt"], record["answer"]) == (sample.prompt, sample.answer)
        for text, spans in ((sample.instruction, record["instruction"]), (sample.context, record["context"])):
            assert [marked(record["prompt"], span) for span in spans] == ([text] if text else [])
        strings = [span for span in record["instruction"] + record["context"] if isinstance(span, str)]
        assert all(record["prompt"].count(span) == 1 for span in strings)


def test_any_prefix_is_balanced_and_every_kind_has_both_orders(records):
    assert len(tasks.KINDS) >= 12 and len(tasks.KNOWLEDGE) >= 4
    assert [r["group"] for r in records] == list(tasks.KINDS) * 10
    orders = Counter((s.kind, s.order) for s in tasks.held_out_samples())
    assert all(orders[kind, order] >= 4 for kind in tasks.KINDS for order in ("before", "after"))
    assert all(len(set(wordings)) >= 6 for wordings in tasks.WORDINGS.values())


def test_prompts_have_15_to_60_tokens_and_answers_of_many_lengths(records, pair):
    tokenizer = pair["tuned"][1]
    lengths = [len(tokenizer(r["prompt"]).input_ids) - 1 for r in records]
    answers = {len(tokenizer(" " + r["answer"]).input_ids) - 1 for r in records}
    assert min(lengths) >= 12 and max(lengths) <= 60 and sum(n >= 15 for n in lengths) >= 190
    assert answers >= set(range(1, 8))


def test_the_same_material_needs_the_instruction():
    answers = {kind: facts.relations()[kind].get("light") for kind in ("plural", "past", "opposite", "comparative")}
    assert answers == {"plural": None, "past": "lit", "opposite": "heavy", "comparative": "lighter"}


def test_the_generator_is_seeded():
    first, again, other = (list(itertools.islice(tasks.tuning_samples(seed), 200)) for seed in (3, 3, 4))
    assert first == again and first != other


@pytest.mark.long
def test_nothing_held_out_occurs_in_tuning(records):
    prompts = {r["prompt"] for r in records}
    held_materials = {s.context for s in tasks.held_out_samples() if " " in s.context}
    for sample in itertools.islice(tasks.tuning_samples(0), 20_000):
        assert sample.prompt not in prompts and sample.context not in held_materials
        assert not sample.word_held_out and not sample.wording_held_out


def test_the_rule_of_exact_match():
    assert measure.is_exact(" children\nmore", "children") and not measure.is_exact(" children of", "children")


@pytest.mark.long
def test_tuned_follows_and_base_does_not(exact):
    assert sum(exact["tuned"]) >= 160 and sum(exact["base"]) <= 20


@pytest.mark.long
def test_the_card_says_what_is_measured_again(exact):
    card = measure.read_card()
    for name, hits in exact.items():
        assert measure.share(hits) == pytest.approx(float(card[f"{name} exact match"]), abs=0.011)
        # A prefix is balanced over kinds: 40 prompts estimate 200 with a standard error of at most 0.08.
        assert measure.share(hits[:SUBSET]) == pytest.approx(float(card[f"{name} exact match"]), abs=0.2)


@pytest.mark.long
def test_perplexities_of_the_card_and_the_unigram_model(pair):
    import numpy as np

    card, texts = measure.read_card(), measure.held_out_texts()
    counts = np.load(measure.HERE / "unigram_counts.npy")
    base = measure.perplexity(*pair["base"], texts)
    unigram = measure.unigram_perplexity(pair["base"][1], texts, counts)
    assert base == pytest.approx(float(card["base perplexity"]), rel=0.01)
    assert unigram == pytest.approx(float(card["unigram perplexity"]), rel=0.01)
    assert base < unigram / 3


def test_held_out_text_is_small():
    assert (measure.HERE / "held_out.txt").stat().st_size <= 60_000


def test_records_are_json_lines():
    lines = demo.prompts_path().read_text(encoding="utf-8").splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
