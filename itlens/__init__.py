"""itlens: what did instruction tuning change inside the model?

The public names load on first use (PEP 562): `import itlens` imports neither torch nor TransformerLens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.errors import (
    AnnotateError,
    ClusterError,
    ItlensError,
    ModelError,
    PairError,
    ProbeError,
    PromptError,
    ResultError,
    StoreError,
)
from itlens.lazy import lazy_names

__version__ = "0.2.0"

_HOME = {
    "load_model": "itlens.models",
    "load_pair": "itlens.models",
    "ModelPair": "itlens.models",
    "interpolate": "itlens.models.interpolation",
    "Prompt": "itlens.prompts",
    "load_prompts": "itlens.prompts",
    "load_texts": "itlens.prompts",
    "format_prompts": "itlens.prompts",
    "attribute": "itlens.hooked.attribution",
    "attention_patterns": "itlens.hooked.patterns",
    "activations": "itlens.findings.activation.probe",
    "qk_word_pairs": "itlens.findings.attention.probe",
    "qk_energy": "itlens.findings.attention.probe",
    "ov_word_pairs": "itlens.findings.attention.probe_output",
    "ov_copying": "itlens.findings.attention.probe_output",
    "mlp_concepts": "itlens.findings.mlp.probe",
    "neuron_words": "itlens.findings.mlp.probe_neurons",
    "mean_vectors": "itlens.weights.words",
    "open_weights": "itlens.weights.stored",
    "weight_delta": "itlens.findings.weight_delta.probe",
    "task_energy": "itlens.findings.task_words.probe",
    "patch": "itlens.findings.patching.probe",
    "activation_shift": "itlens.findings.activation.probe_shift",
    "faithfulness": "itlens.findings.faithfulness.probe",
    "token_shift": "itlens.findings.token_shift.probe",
    "divergence": "itlens.findings.divergence.probe",
    "activation_difference": "itlens.findings.activation_difference.probe",
    "difference_dial": "itlens.findings.activation_difference.probe_dial",
    "logit_diff": "itlens.findings.logit_diff.probe",
    "to_words": "itlens.results.aggregate",
    "to_spans": "itlens.results.aggregate",
    "sparsify": "itlens.results.density",
    "importance_density": "itlens.results.density",
    "span_mask": "itlens.results.density",
    "span_score": "itlens.results.density",
    "span_profile": "itlens.results.density",
    "annotate_concepts": "itlens.annotate.concept_labels",
    "Vocabulary": "itlens.vocabulary",
    "WordVectors": "itlens.vocabulary",
    "selftest": "itlens.planted",
    "compare": "itlens.study",
    "compare_series": "itlens.study",
    "compare_templates": "itlens.study",
    "Comparison": "itlens.study",
    "explore": "itlens.study.shown",
    "Finding": "itlens.findings.base",
    "Verdict": "itlens.findings.base",
    "Headline": "itlens.findings.base",
    "Place": "itlens.report.explorer_places",
    "PlaceNumber": "itlens.report.explorer_places",
    "PlaceWords": "itlens.report.explorer_places",
    "option": "itlens.findings.options",
    "register": "itlens.findings",
    "save": "itlens.results.store",
    "load": "itlens.results.store",
}
_MODULES = ("annotate", "diff", "views", "demo", "errors", "findings")

__all__ = [
    "AnnotateError",
    "ClusterError",
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
    from itlens import annotate, demo, diff, errors, findings, views
    from itlens.annotate import annotate_concepts
    from itlens.findings import register
    from itlens.findings.activation.probe import activations
    from itlens.findings.activation.probe_shift import activation_shift
    from itlens.findings.activation_difference.probe import activation_difference
    from itlens.findings.activation_difference.probe_dial import difference_dial
    from itlens.findings.attention.probe import qk_energy, qk_word_pairs
    from itlens.findings.attention.probe_output import ov_copying, ov_word_pairs
    from itlens.findings.base import Finding, Headline, Verdict
    from itlens.findings.divergence.probe import divergence
    from itlens.findings.faithfulness.probe import faithfulness
    from itlens.findings.logit_diff.probe import logit_diff
    from itlens.findings.mlp.probe import mlp_concepts
    from itlens.findings.mlp.probe_neurons import neuron_words
    from itlens.findings.options import option
    from itlens.findings.patching.probe import patch
    from itlens.findings.task_words.probe import task_energy
    from itlens.findings.token_shift.probe import token_shift
    from itlens.findings.weight_delta.probe import weight_delta
    from itlens.hooked.attribution import attribute
    from itlens.hooked.patterns import attention_patterns
    from itlens.models import ModelPair, load_model, load_pair
    from itlens.models.interpolation import interpolate
    from itlens.planted import selftest
    from itlens.prompts import Prompt, format_prompts, load_prompts, load_texts
    from itlens.report.explorer_places import Place, PlaceNumber, PlaceWords
    from itlens.results.aggregate import to_spans, to_words
    from itlens.results.density import importance_density, span_mask, span_profile, span_score, sparsify
    from itlens.results.store import load, save
    from itlens.study import Comparison, compare, compare_series, compare_templates
    from itlens.study.shown import explore
    from itlens.vocabulary import Vocabulary, WordVectors
    from itlens.weights.stored import open_weights
    from itlens.weights.words import mean_vectors
