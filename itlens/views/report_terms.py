"""The terms of a report in plain words: what was measured, and how far it can be trusted."""

from __future__ import annotations

from itlens.views import text

_SOURCE = (
    "After Wu et al., From Language Modeling to Instruction Following, NAACL 2024 (arXiv 2310.00492). Attribution says "
    "what a small change of an input would do to the output; it is evidence about the model, not its reasons."
)


def terms(levels: int, threshold: int, p: float) -> str:
    """Definitions of the words on the page, for these settings of the method."""
    body = "".join(
        f"<div><h3>{text.html(name)}</h3><p>{text.html(words)}</p></div>"
        for name, words in _definitions(levels, threshold, p).items()
    )
    return f'<div class="card"><div class="terms">{body}</div><p class="sub source">{text.html(_SOURCE)}</p></div>'


def _definitions(levels: int, threshold: int, p: float) -> dict[str, str]:
    return {
        "Attribution": "How much a prompt token pushes the model to write a response token. It is the gradient of "
        "the response token's objective (its probability, unless the parameters say otherwise) with respect to the "
        "prompt token's embedding, times that embedding (input × gradient, unless the parameters say otherwise).",
        "Level": f"Per response token, attributions below zero become zero, the rest are divided by the largest "
        f"and rounded up to levels 0 to {levels}. Levels up to b = {threshold} then count as zero, so that only "
        "the strongest prompt tokens stay.",
        "Importance density": f"For each prompt token: the sum of its levels over the response, divided by their "
        f"{p:g}-norm. High when the token matters all along the response, not only once.",
        "Instruction score": "The densities, divided by the prompt's largest, summed over the instruction's tokens and "
        "divided by log₂(2 + their number). An empty response scores 0.",
        "Difference, interval, p": "Tuned minus base on the same prompt, averaged over prompts. The interval is a "
        "bootstrap over prompts. p is a paired t test, two-sided; Wilcoxon's test stands beside it, and Holm's "
        "correction allows for the number of groups. d_z is the mean of the differences over their standard deviation.",
        "p Welch": "The test of the original paper: unpaired, one-sided (tuned above base). It ignores that both "
        "models saw the same prompts, and is shown for comparison only.",
    }
