"""What the sections of a report are made of: headings, cards, figures as data for the page's script."""

from __future__ import annotations

import plotly.graph_objects as go

from itlens.views import text

Card = tuple[str, str, str, str]  # role (colour), label, value, more

ATTRIBUTION = {
    "prompts": "Prompts and groups",
    "response": "Along the response",
    "robustness": "Does it hold?",
    "examples": "Examples",
}
ATTENTION = {
    "verbs": "Instruction verbs",
    "heads": "Head by head",
    "moved": "The heads that moved most",
}
CONCEPTS = {
    "turned": "How far concepts turned",
    "topics": "What concepts are about",
    "changed": "Concepts gained and lost",
    "cards": "Concepts in words",
}
ACTIVATION = {"activations": "While reading the same words"}
PATCHING = {"patching": "Which parts carry it"}
FAITHFULNESS = {"faithfulness": "Can the attributions be believed?"}
ALWAYS = {"methods": "What the words mean", "run": "What was run"}
_HEADINGS = ATTRIBUTION | ATTENTION | CONCEPTS | ACTIVATION | PATCHING | FAITHFULNESS | ALWAYS
SIDES = {
    "value": "Value vectors: what neurons write",
    "key": "Key vectors: what neurons look for",
    "gate": "Gate vectors: what opens neurons",
}


def section(anchor: str, words: str = "") -> str:
    """The heading of a section, where the links at the top lead to, and its first sentence (HTML)."""
    intro = f'<p class="intro">{words}</p>' if words else ""
    return f'<h2 id="{anchor}">{_HEADINGS[anchor]}</h2>{intro}'


def side_heading(side: str) -> str:
    """The heading of what is said about one kind of neuron vectors."""
    return f'<h3 class="vectors">{text.html(SIDES.get(side, side))}</h3>'


def answer(own: str, verdict: str) -> str:
    """A part's own answer, unless it stands at the top of the page."""
    return f'<p class="answer">{text.html(own)}</p>' if own and own not in verdict else ""


def figure(fig: go.Figure, height: int | None = None, *, wide: bool = False) -> str:
    """A figure with its title as a heading of the page: plotly does not wrap titles, and narrow screens cut them.

    A figure's own buttons become buttons of the page (assets/report.js), which wrap and answer to the keyboard.
    """
    title, subtitle = fig.layout.title.text or "", fig.layout.title.subtitle.text or ""
    bare = go.Figure(fig).update_layout(title={"text": "", "subtitle": {"text": ""}})
    bare.update_layout(margin={"t": 34, "l": 50, "b": 50}, height=height or fig.layout.height)
    data = text.json_in_script(bare.to_json())
    size = " panels" if wide and "xaxis2" in bare.layout else " wide" if wide else ""
    kind, tall = f"itlens-figure{size}", f"height:{bare.layout.height}px"
    drawing = (
        f'<div class="{kind}" role="img" aria-label="{title}" style="{tall}">'
        f'<script type="application/json">{data}</script></div>'
    )
    return card(title, subtitle, scroll(drawing))


def card(heading: str, sub: str, body: str) -> str:
    """A card with its heading, a line below it (both HTML; each may be ""), and its body."""
    above = f"<h3>{heading}</h3>" if heading else ""
    return f'<div class="card">{above}{f"<p class=sub>{sub}</p>" if sub else ""}{body}</div>'


def scroll(body: str) -> str:
    """A body that may be wider than a narrow screen."""
    return f'<div class="scroll">{body}</div>'


def nothing(words: str = "Nothing to show: no prompt was scored.") -> str:
    """A card that says why there is nothing."""
    return f'<div class="card">{words}</div>'
