"""What views leave in a notebook: data and small scripts, never a JavaScript bundle; each output draws on its own."""

from __future__ import annotations

import json
import re

import numpy as np
import plotly.io as pio
import pytest
import xarray as xr

from itlens import views
from tests.views import factory, running_factory, word_factory

MIME = "application/vnd.plotly.v1+json"
TOKENS = [f"w{i}" for i in range(30)]


def patterns() -> xr.Dataset:
    values = np.tril(np.ones((2, 1, 4, 30, 30), dtype=np.float32)) / 30
    coords = {"model": ["base", "tuned"], "layer": [0], "head": range(4), "token": ("query", TOKENS)}
    attrs = {"base_model": "a", "tuned_model": "b"}
    return xr.Dataset({"pattern": (("model", "layer", "head", "query", "key"), values)}, coords, attrs)


@pytest.fixture(scope="module")
def outputs() -> dict[str, str]:
    """Five views of a notebook, as Jupyter's kernel stores them (plotly's renderer there is `plotly_mimetype`)."""
    base, tuned = (factory.attribution(TOKENS, ["a", "b", "c"], seed=n, model=str(n)) for n in (1, 2))
    prompt = factory.prompt(TOKENS, 0, 3)
    figures = {
        "faithfulness": views.faithfulness(running_factory.faithfulness_table()),
        "heads": views.heads(word_factory.attention_tables()["word_pairs"]),
    }
    panels = {
        "tokens": views.tokens(tuned, prompt=prompt),
        "token_pair": views.token_pair(base, tuned, prompt),
        "attention": views.attention(patterns()),
    }
    renderer = pio.renderers["plotly_mimetype"]
    stored = {name: json.dumps(renderer.to_mimebundle(figure.to_dict())[MIME]) for name, figure in figures.items()}
    return stored | {name: panel._repr_html_() for name, panel in panels.items()}


def test_five_views_take_a_tenth_of_a_megabyte(outputs: dict[str, str]) -> None:
    assert len(outputs) == 5
    assert sum(map(len, outputs.values())) < 100_000, {name: len(text) for name, text in outputs.items()}


def test_no_output_needs_another_one_or_the_network(outputs: dict[str, str]) -> None:
    for name, text in outputs.items():
        assert "Plotly.newPlot" not in text, name
        assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=", text), name
    for name in ("tokens", "token_pair", "attention"):
        assert outputs[name].count("<script>") == 1, name
