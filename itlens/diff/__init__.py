"""Diffs: functions of two results that align by label and test the differences. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "attributions": "itlens.diff.attribution_diff",
    "AttributionDiff": "itlens.diff.attribution_diff",
    "verdict": "itlens.diff.conclusion",
    "word_pairs": "itlens.diff.word_pair_diff",
    "head_agreement": "itlens.diff.agreement",
    "top_heads": "itlens.diff.agreement",
    "pair_changes": "itlens.diff.pair_listing",
    "moved_heads": "itlens.diff.pair_listing",
    "verb_changes": "itlens.diff.verb_groups",
    "pairs_verdict": "itlens.diff.pair_conclusion",
    "concepts": "itlens.diff.concept_diff",
    "concept_changes": "itlens.diff.concept_listing",
    "concept_shares": "itlens.diff.label_shares",
    "concepts_verdict": "itlens.diff.concept_conclusion",
    "activations": "itlens.diff.activation_diff",
    "activation_scores": "itlens.diff.activation_headlines",
    "activation_means": "itlens.diff.model_activations",
    "activations_verdict": "itlens.diff.activation_conclusion",
    "shift_summary": "itlens.diff.shift_listing",
    "shift_tests": "itlens.diff.shift_listing",
    "shifted_heads": "itlens.diff.shift_listing",
    "faithfulness": "itlens.diff.faithfulness_diff",
    "faithfulness_curves": "itlens.diff.faithfulness_conclusion",
    "faithfulness_verdict": "itlens.diff.faithfulness_conclusion",
    "patch_groups": "itlens.diff.patch_listing",
    "patching_verdict": "itlens.diff.patching_conclusion",
    "content_only": "itlens.diff.content_scores",
    "prompt_scores": "itlens.diff.content_scores",
    "two_by_two": "itlens.diff.cell_contrasts",
    "template_effects": "itlens.diff.template_diff",
    "TemplateEffects": "itlens.diff.template_diff",
    "template_verdict": "itlens.diff.template_diff",
    "series": "itlens.diff.model_series",
    "ModelSeries": "itlens.diff.model_series",
    "series_verdict": "itlens.diff.series_conclusion",
}

__all__ = [
    "AttributionDiff",
    "ModelSeries",
    "TemplateEffects",
    "activation_means",
    "activation_scores",
    "activations",
    "activations_verdict",
    "attributions",
    "concept_changes",
    "concept_shares",
    "concepts",
    "concepts_verdict",
    "content_only",
    "faithfulness",
    "faithfulness_curves",
    "faithfulness_verdict",
    "head_agreement",
    "moved_heads",
    "pair_changes",
    "pairs_verdict",
    "patch_groups",
    "patching_verdict",
    "prompt_scores",
    "series",
    "series_verdict",
    "shift_summary",
    "shift_tests",
    "shifted_heads",
    "template_effects",
    "template_verdict",
    "top_heads",
    "two_by_two",
    "verb_changes",
    "verdict",
    "word_pairs",
]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.diff.activation_conclusion import activations_verdict
    from itlens.diff.activation_diff import activations
    from itlens.diff.activation_headlines import activation_scores
    from itlens.diff.agreement import head_agreement, top_heads
    from itlens.diff.attribution_diff import AttributionDiff, attributions
    from itlens.diff.cell_contrasts import two_by_two
    from itlens.diff.concept_conclusion import concepts_verdict
    from itlens.diff.concept_diff import concepts
    from itlens.diff.concept_listing import concept_changes
    from itlens.diff.conclusion import verdict
    from itlens.diff.content_scores import content_only, prompt_scores
    from itlens.diff.faithfulness_conclusion import faithfulness_curves, faithfulness_verdict
    from itlens.diff.faithfulness_diff import faithfulness
    from itlens.diff.label_shares import concept_shares
    from itlens.diff.model_activations import activation_means
    from itlens.diff.model_series import ModelSeries, series
    from itlens.diff.pair_conclusion import pairs_verdict
    from itlens.diff.pair_listing import moved_heads, pair_changes
    from itlens.diff.patch_listing import patch_groups
    from itlens.diff.patching_conclusion import patching_verdict
    from itlens.diff.series_conclusion import series_verdict
    from itlens.diff.shift_listing import shift_summary, shift_tests, shifted_heads
    from itlens.diff.template_diff import TemplateEffects, template_effects, template_verdict
    from itlens.diff.verb_groups import verb_changes
    from itlens.diff.word_pair_diff import word_pairs
