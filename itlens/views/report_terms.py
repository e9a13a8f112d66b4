"""The terms of a report in plain words: what was measured, and how far it can be trusted."""

from __future__ import annotations

from itlens.views import text
from itlens.views.report_content import ReportContent, settings
from itlens.views.report_running_terms import running_terms

_SOURCE = "After Wu et al., From Language Modeling to Instruction Following, NAACL 2024 (arXiv 2310.00492)."
_ATTRIBUTION_LIMIT = (
    " Attribution says what a small change of an input would do to the output; it is evidence about the model, not its "
    "reasons."
)


def terms(content: ReportContent) -> str:
    """Definitions of the words on the page, for the parts that it has and the settings of the method."""
    found: dict[str, str] = {}
    if content.diff is not None:
        found |= _attribution(*settings(content))
    if content.words is not None:
        attrs = content.words.diff.attrs
        found |= _attention(attrs.get("top_k", 100), attrs.get("deviations", 1.96), attrs.get("min_dims", 2))
    if content.concepts:
        found |= _concepts()
    found |= running_terms(content)
    body = "".join(f"<div><h3>{text.html(name)}</h3><p>{text.html(words)}</p></div>" for name, words in found.items())
    of_paper = content.diff is not None or content.words is not None or bool(content.concepts)
    source = (_SOURCE if of_paper else "") + (_ATTRIBUTION_LIMIT if content.diff is not None else "")
    said = f'<p class="sub source">{text.html(source)}</p>' if source else ""
    return f'<div class="card"><div class="terms">{body}</div>{said}</div>'


def _attribution(levels: int, threshold: int, p: float) -> dict[str, str]:
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


def _attention(top_k: int, deviations: float, min_dims: int) -> dict[str, str]:
    return {
        "Head dimension": "A head compares queries with keys as the sum over its dimensions (the columns of W_Q and "
        "W_K). Each is read by itself here: which words does it answer to as a query, and which as a key? L5H3 is head "
        "3 of layer 5, both counted from 0.",
        "Word pair": f"A query word and a key word that are both among the {top_k} strongest words of one head "
        "dimension, push it in the same direction (unless the settings say otherwise), and are related. Words enter as "
        "the model's own input embeddings, with the norm's gain before attention; no position is applied.",
        "Related": f"The cosine of the two words' vectors, which do not come from the models, lies above the mean plus "
        f"{deviations:g} standard deviations of the cosines of each of the two words with frequent words, and above 0.",
        "Energy": "Of a dimension: the squares of all words' query and key activations, summed. Of a pair: query times "
        "key activation, summed over the dimensions that hold it. Pairs stand in the order of relatedness times "
        "energy.",
        "Overlap, gained, lost": "Over all dimensions of a head, each ordered pair counted once: pairs in both models "
        "(kept), only in the tuned (gained), only in the base (lost). Overlap is kept divided by all three.",
        "Repeated pair": f"A pair, in either order and in lower case, that stands in at least {min_dims} dimensions of "
        "a head. A verb's count is the number of a head's repeated pairs that hold it.",
        "Share of changed heads": "For a verb: among the heads where tuning changed its count, the share where it "
        "rose. 50 % means no direction. The paper compares its mean over instruction verbs with that over general "
        "verbs.",
        "Permutation p": "The larger p of two nulls. Random verb sets: as many verbs as there are instruction verbs, "
        "drawn among verbs as frequent and as often in pairs, and scored in the same way. Swapped models: base and "
        "tuned exchanged in random heads (for a single head, in random dimensions), since related verbs change "
        "together and Welch's test, which takes them for independent, can be far too sure. Benjamini-Hochberg's "
        "correction allows for the number of heads.",
        "What word pairs do not show": "They are read from weights, on single words and without context: above the "
        "first layer a head reads what earlier layers wrote, not embeddings. They cover queries and keys, not what a "
        "head moves. They say what a head could bring together, not that it does so on a text, nor that it matters for "
        "the output.",
    }


def _concepts() -> dict[str, str]:
    return {
        "Concept": "A main direction of a layer's neuron vectors (a principal component, by variance), read as its "
        "nearest words. Value vectors are what each neuron of the feed-forward layer writes, key and gate vectors what "
        "it looks for. A concept is a direction of variance: nothing says that the model uses it as a whole.",
        "Overlap of spaces": "Concepts have no sign and no fixed order, so spaces of the first k are compared: the "
        "mean squared cosine of the principal angles between them. 1 is the same space; random ones have k / d_model.",
        "Noise floor": "Each model against itself, with its neurons drawn anew: so much a space turns because it is "
        "estimated from a limited number of neurons. It is not a second training run: most of what tuning moves, any "
        "further training would move too.",
        "Degenerate": "The components k and k + 1 explain nearly the same. Which are the first k is then left to "
        "chance, and the largest angles mean little.",
        "Kept, gained, lost": "By words: kept when a concept of the other model shares about half of them. The "
        "component beside it is matched by |cosine|, one to one. “Inside” is how much of a concept lies within all "
        "components of the other model that were kept.",
        "Label": "What a labeller says of the 15 top words: a description, a linguistic level, the user tasks that "
        "they serve, or “cannot tell” where fewer than half agree.",
        "Interval and p of shares": "The interval draws concepts anew within each layer. p lets concepts change hands "
        "between the models at random. Holm's correction allows for the number of tasks, or of levels. Turned and "
        "labelled are two questions: neither says where a space turned to.",
    }
