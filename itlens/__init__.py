"""itlens: what did instruction tuning change inside the model?

The public names load on first use (PEP 562): `import itlens` imports neither torch nor TransformerLens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.errors import (
    AnnotateError,
    ItlensError,
    ModelError,
    PairError,
    ProbeError,
    PromptError,
    ResultError,
    StoreError,
)
from itlens.lazy import lazy_names

__version__ = "0.1.0"

_HOME = {
    "load_model": "itlens.models",
    "load_pair": "itlens.models",
    "ModelPair": "itlens.models",
    "Prompt": "itlens.prompts",
    "load_prompts": "itlens.prompts",
    "format_prompts": "itlens.prompts",
    "attribute": "itlens.probes.attribution",
    "activations": "itlens.probes.activation",
    "qk_word_pairs": "itlens.probes.attention",
    "qk_energy": "itlens.probes.attention",
    "ov_word_pairs": "itlens.probes.words.output_words",
    "ov_copying": "itlens.probes.words.output_words",
    "mlp_concepts": "itlens.probes.mlp",
    "neuron_words": "itlens.probes.concepts.neurons",
    "mean_vectors": "itlens.probes.words.word_rows",
    "patch": "itlens.probes.patching",
    "activation_shift": "itlens.probes.shift",
    "faithfulness": "itlens.probes.faithfulness",
    "to_words": "itlens.aggregate",
    "to_spans": "itlens.aggregate",
    "sparsify": "itlens.density",
    "importance_density": "itlens.density",
    "span_mask": "itlens.density",
    "span_score": "itlens.density",
    "span_profile": "itlens.density",
    "annotate_concepts": "itlens.annotate.concept_labels",
    "Vocabulary": "itlens.vocabulary",
    "WordVectors": "itlens.vocabulary",
    "selftest": "itlens.planted",
    "compare": "itlens.study",
    "compare_series": "itlens.study",
    "compare_templates": "itlens.study",
    "Comparison": "itlens.study",
    "save": "itlens.store",
    "load": "itlens.store",
}
_MODULES = ("annotate", "diff", "views", "demo", "errors")

__all__ = [
    "AnnotateError",
    "ItlensError",
    "ModelError",
    "PairError",
    "ProbeError",
    "PromptError",
    "ResultError",
    "StoreError",
    "__version__",
    *_HOME,
    *_MODULES,
]


__getattr__, _ = lazy_names(__name__, _HOME, _MODULES)


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from itlens import annotate, demo, diff, errors, views
    from itlens.aggregate import to_spans, to_words
    from itlens.annotate import annotate_concepts
    from itlens.density import importance_density, span_mask, span_profile, span_score, sparsify
    from itlens.models import ModelPair, load_model, load_pair
    from itlens.planted import selftest
    from itlens.probes.activation import activations
    from itlens.probes.attention import qk_energy, qk_word_pairs
    from itlens.probes.attribution import attribute
    from itlens.probes.concepts.neurons import neuron_words
    from itlens.probes.faithfulness import faithfulness
    from itlens.probes.mlp import mlp_concepts
    from itlens.probes.patching import patch
    from itlens.probes.shift import activation_shift
    from itlens.probes.words.output_words import ov_copying, ov_word_pairs
    from itlens.probes.words.word_rows import mean_vectors
    from itlens.prompts import Prompt, format_prompts, load_prompts
    from itlens.store import load, save
    from itlens.study import Comparison, compare, compare_series, compare_templates
    from itlens.vocabulary import Vocabulary, WordVectors
