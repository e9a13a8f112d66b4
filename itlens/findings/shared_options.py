"""Options that several findings share, each one field object: one keyword, one flag, one meaning."""

from __future__ import annotations

from itlens.findings.options import option
from itlens.vocabulary.word_vectors import loaded_vectors, loaded_vocabulary

METHODS = ("input_x_gradient", "saliency", "integrated_gradients")
OBJECTIVES = ("prob", "logprob", "logit", "contrastive")


VOCABULARY = option(
    "builtin",
    help="Words: builtin, or a text or TSV file from frequent to rare.",
    load=lambda given, options: loaded_vocabulary(given, "vocabulary"),
    describe=lambda words: f"{words.name or 'given'}, {len(words):,} words",
)
VECTORS = option(
    "builtin",
    help="Word vectors that say which words are related: builtin, or a file.",
    load=lambda given, options: loaded_vectors(given, options["vocabulary"]),
    describe=lambda vectors: f"{vectors.name or 'given'}, {vectors.vectors.shape[1]} dimensions",
)
METHOD = option(
    "input_x_gradient", help="Attribution: input_x_gradient, saliency or integrated_gradients.", one_of=METHODS
)
OBJECTIVE = option("prob", help="What is attributed: prob, logprob, logit or contrastive.", one_of=OBJECTIVES)
BATCH_SIZE = option(None, help="Derivatives computed at a time; default: by memory.", at_least=1, identity=False)
SAMPLE = option(16, help="Prompts, drawn at random, for what takes many passes (patching, faithfulness).", at_least=1)
