"""Tables and terms of the section: verbs per group of layers, heads whose pairs changed most, settings, definitions."""

from __future__ import annotations

from itlens.findings.attention.view import whole_sign
from itlens.report.blocks import Column, Row
from itlens.report.head_grid import head_name
from itlens.report.numbers import is_number, percent, percent_range, rounded_range, whole


def _layers(row: Row) -> str:
    return str(row.get("group", "")).removeprefix("layers ").removeprefix("layer ")


def _mean(name: str) -> Column:
    def shown(row: Row) -> str:
        mean, std = row.get(f"{name}_share"), row.get(f"{name}_std")
        return f"{percent(mean)} ± {percent(std)}" if is_number(mean) and is_number(std) else percent(mean)

    text = f"share of changed heads in which the count of {name} verbs rose: mean ± standard deviation over verbs"
    return Column(f"{name}_share", f"{name} (%)", shown, text)


VERB_GROUPS = (
    Column("group", "layers", _layers),
    Column(
        "changed_heads", "heads changed", lambda row: f"{whole(row.get('changed_heads'))} of {whole(row.get('heads'))}",
        "heads in which the count of a verb changed, of those probed",
    ),
    Column(
        "instruction_verbs", "verbs",
        lambda row: f"{whole(row.get('instruction_verbs'))} + {whole(row.get('general_verbs'))}",
        "instruction + general verbs whose count changed in any head", terminal=False,
    ),
    _mean("instruction"),
    _mean("general"),
    Column(
        "difference", "difference (points)", lambda row: percent(row.get("difference"), sign=True),
        "instruction verbs − general verbs",
    ),
    Column(
        "ci_low", "95 % interval", lambda row: percent_range(row.get("ci_low"), row.get("ci_high")),
        "bootstrap over verbs, taken as independent",
    ),
    Column("effect_size", "d", "signed", "Cohen's d over verbs", decimals=2, test=True),
    Column("p_welch", "p Welch", "p", "the paper's test, two-sided; takes verbs as independent", test=True),
    Column(
        "null_low", "random sets (points)", lambda row: percent_range(row.get("null_low"), row.get("null_high")),
        "95 % range of the differences of random verb sets", test=True, terminal=False,
    ),
    Column(
        "p_null", "p perm.", "p",
        "permutation: the larger p of random verb sets and of base and tuned swapped in random heads", test=True,
    ),
)  # fmt: skip
MOVED_HEADS = (
    Column("layer", "head", lambda row: head_name(row["layer"], row["head"]), "layer and head, counted from 0"),
    Column("overlap", "overlap", "number", "pairs in both, divided by pairs in either", decimals=2),
    Column("kept", "kept", "count", "pairs in both"),
    Column("gained", "gained", "count", "pairs only in tuned"),
    Column("lost", "lost", "count", "pairs only in base"),
    Column(
        "instruction_change", "instr. verbs", lambda row: whole_sign(row.get("instruction_change")),
        "count of instruction verbs in repeated pairs, tuned − base",
    ),
    Column(
        "instruction_low", "random verbs",
        lambda row: rounded_range(row.get("instruction_low"), row.get("instruction_high")),
        "95 % range of the change of random verb sets",
    ),
    Column("instruction_p_bh", "p BH", "p", "Benjamini-Hochberg over all heads"),
    Column("first_gained", "gained first", help="pairs only in tuned, the strongest first"),
    Column("first_lost", "lost first", help="pairs only in base, the strongest first"),
)  # fmt: skip
WRITTEN_HEADS = (
    Column("layer", "head", lambda row: head_name(row["layer"], row["head"]), "layer and head, counted from 0"),
    Column("overlap", "overlap", "number", "written pairs in both, divided by those in either", decimals=2),
    Column("kept", "kept", "count", "pairs (word read, word written) in both"),
    Column("gained", "gained", "count", "pairs only in tuned"),
    Column("lost", "lost", "count", "pairs only in base"),
    Column("first_gained", "gained first", help="word read → word written, only in tuned, the highest score first"),
    Column("first_lost", "lost first", help="word read → word written, only in base, the highest score first"),
)
SETTINGS = (Column("setting", "setting"), Column("value", "value"))


def pair_terms(top_k: int, deviations: float, min_dims: int) -> dict[str, str]:
    """Return the definitions of the section's terms, for these settings of the method."""
    return {
        "Head dimension": "A head compares queries with keys as the sum over its dimensions (the columns of W_Q and "
        "W_K). Each dimension is read separately here: which words does it respond to as a query, and which as a key? "
        "L5H3 is head 3 of layer 5, both counted from 0.",
        "Word pair": f"A query word and a key word that are both among the {top_k} strongest words of one head "
        "dimension, push it in the same direction (unless the settings say otherwise), and are related. Words enter as "
        "the model's own input embeddings, with the gain of the norm before attention; no position is applied.",
        "Related": "The cosine of the two words' vectors, which do not come from the models, is above the mean plus "
        f"{deviations:g} standard deviations of the cosines of each of the two words with frequent words, and above 0.",
        "Energy": "Of a dimension: the squares of all words' query and key activations, summed. Of a pair: query times "
        "key activation, summed over the dimensions that hold it. Pairs are sorted by relatedness times energy.",
        "Overlap, gained, lost": "Over all dimensions of a head, each ordered pair counted once: pairs in both models "
        "(kept), only in the tuned model (gained), only in the base model (lost). Overlap is kept divided by the sum "
        "of all three.",
        "Repeated pair": f"A pair, in either order and in lower case, that is in at least {min_dims} dimensions of "
        "a head. A verb's count is the number of a head's repeated pairs that hold it.",
        "Share of changed heads": "For a verb: among the heads where tuning changed its count, the share where it "
        "rose. 50 % means no direction. The paper compares the mean over instruction verbs with that over general "
        "verbs.",
        "Permutation p": "The larger p of two nulls. Random verb sets: as many verbs as there are instruction verbs, "
        "drawn among verbs as frequent and as often in pairs, and scored in the same way. Swapped models: base and "
        "tuned exchanged in random heads (for a single head, in random dimensions), since related verbs change "
        "together, and Welch's test, which takes them as independent, can give far too small p-values. "
        "Benjamini-Hochberg's correction accounts for the number of heads.",
        "What word pairs do not show": "They are read from weights, on single words and without context: above the "
        "first layer a head reads what earlier layers wrote, not embeddings. They cover queries and keys, not what a "
        "head moves. They say what a head could bring together, not that it does so on a text, nor that it matters for "
        "the output.",
    }


def written_terms(inputs: int, top_k: int) -> dict[str, str]:
    """Return the definition of what a head writes, for these settings."""
    return {
        "What a head writes": f"Of {inputs} words that it may read (the most frequent words of the vocabulary and the "
        f"instruction verbs), the {top_k} words whose logits it raises most: the word's input embedding, with the gain "
        "of the norm before attention, times W_V and W_O, and then the output embedding of the written word, with the "
        "gain of the final norm. The score is in logits, up to the scale of the norms; words with a score of 0 or less "
        "are not written. This is the direct effect of a head that attends to the one word alone: what later layers "
        "make of it, and whether the head ever attends to the word, is not in it.",
    }
