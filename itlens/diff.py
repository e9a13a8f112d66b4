"""Diffs: functions of two results that align by label and test the differences. Names load on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "attributions": "itlens.findings.attribution.diff",
    "AttributionDiff": "itlens.findings.attribution.diff",
    "verdict": "itlens.findings.attribution.diff",
    "word_pairs": "itlens.findings.attention.diff:compare_word_pairs",
    "head_agreement": "itlens.findings.patching.diff_agreement",
    "top_heads": "itlens.findings.patching.diff_agreement",
    "pair_changes": "itlens.findings.attention.diff_pairs",
    "moved_heads": "itlens.findings.attention.diff_pairs",
    "written_changes": "itlens.findings.attention.diff_written",
    "written_heads": "itlens.findings.attention.diff_written",
    "verb_changes": "itlens.findings.attention.diff",
    "pairs_verdict": "itlens.findings.attention.diff_verdict",
    "concepts": "itlens.findings.mlp.diff:compare_concepts",
    "concept_changes": "itlens.findings.mlp.diff_listing",
    "concept_shares": "itlens.findings.mlp.diff_labels",
    "concepts_verdict": "itlens.findings.mlp.diff_verdict",
    "activations": "itlens.findings.activation.diff:compare_activations",
    "activation_scores": "itlens.findings.activation.diff",
    "activation_means": "itlens.findings.activation.diff",
    "activations_verdict": "itlens.findings.activation.diff_verdict",
    "shift_summary": "itlens.findings.activation.diff_shift",
    "shift_tests": "itlens.findings.activation.diff_shift",
    "shifted_heads": "itlens.findings.activation.diff_shift",
    "faithfulness": "itlens.findings.faithfulness.diff:compare_faithfulness",
    "faithfulness_curves": "itlens.findings.faithfulness.diff",
    "faithfulness_verdict": "itlens.findings.faithfulness.diff_verdict",
    "patch_groups": "itlens.findings.patching.diff",
    "patching_verdict": "itlens.findings.patching.diff",
    "shift_shares": "itlens.findings.token_shift.diff",
    "token_shift_tests": "itlens.findings.token_shift.diff",
    "shift_depth": "itlens.findings.token_shift.diff",
    "shift_places": "itlens.findings.token_shift.diff",
    "shift_kinds": "itlens.findings.token_shift.diff",
    "shifted_tokens": "itlens.findings.token_shift.diff",
    "divergence_effects": "itlens.findings.divergence.diff",
    "divergence_depth": "itlens.findings.divergence.diff",
    "divergence_blocks": "itlens.findings.divergence.diff",
    "divergence_tests": "itlens.findings.divergence.diff",
    "partings": "itlens.findings.divergence.diff",
    "difference_places": "itlens.findings.activation_difference.diff",
    "difference_words": "itlens.findings.activation_difference.diff",
    "difference_spectrum": "itlens.findings.activation_difference.diff",
    "dial_effects": "itlens.findings.activation_difference.diff",
    "token_changes": "itlens.findings.logit_diff.diff",
    "group_changes": "itlens.findings.logit_diff.diff",
    "token_themes": "itlens.findings.logit_diff.diff",
    "task_gains": "itlens.findings.task_words.diff",
    "task_changes": "itlens.findings.task_words.diff",
    "behaviour_tests": "itlens.findings.behaviour.diff",
    "behaviour_openings": "itlens.findings.behaviour.diff",
    "behaviour_links": "itlens.findings.behaviour.diff",
    "content_only": "itlens.findings.attribution.diff_template",
    "prompt_scores": "itlens.findings.attribution.diff_template",
    "paired": "itlens.stats.groups",
    "two_by_two": "itlens.stats.two_by_two",
    "template_effects": "itlens.findings.attribution.diff_template",
    "TemplateEffects": "itlens.stats.two_by_two",
    "template_verdict": "itlens.stats.two_by_two",
    "series": "itlens.stats.series",
    "ModelSeries": "itlens.stats.series",
    "series_verdict": "itlens.stats.series",
    "linearity": "itlens.stats.linearity:linearity_table",
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
    "behaviour_links",
    "behaviour_openings",
    "behaviour_tests",
    "concept_changes",
    "concept_shares",
    "concepts",
    "concepts_verdict",
    "content_only",
    "dial_effects",
    "difference_places",
    "difference_spectrum",
    "difference_words",
    "divergence_blocks",
    "divergence_depth",
    "divergence_effects",
    "divergence_tests",
    "faithfulness",
    "faithfulness_curves",
    "faithfulness_verdict",
    "group_changes",
    "head_agreement",
    "linearity",
    "moved_heads",
    "pair_changes",
    "paired",
    "pairs_verdict",
    "partings",
    "patch_groups",
    "patching_verdict",
    "prompt_scores",
    "series",
    "series_verdict",
    "shift_depth",
    "shift_kinds",
    "shift_places",
    "shift_shares",
    "shift_summary",
    "shift_tests",
    "shifted_heads",
    "shifted_tokens",
    "task_changes",
    "task_gains",
    "template_effects",
    "template_verdict",
    "token_changes",
    "token_shift_tests",
    "token_themes",
    "top_heads",
    "two_by_two",
    "verb_changes",
    "verdict",
    "word_pairs",
    "written_changes",
    "written_heads",
]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.findings.activation.diff import activation_means, activation_scores
    from itlens.findings.activation.diff import compare_activations as activations
    from itlens.findings.activation.diff_shift import shift_summary, shift_tests, shifted_heads
    from itlens.findings.activation.diff_verdict import activations_verdict
    from itlens.findings.activation_difference.diff import (
        dial_effects,
        difference_places,
        difference_spectrum,
        difference_words,
    )
    from itlens.findings.attention.diff import compare_word_pairs as word_pairs
    from itlens.findings.attention.diff import verb_changes
    from itlens.findings.attention.diff_pairs import moved_heads, pair_changes
    from itlens.findings.attention.diff_verdict import pairs_verdict
    from itlens.findings.attention.diff_written import written_changes, written_heads
    from itlens.findings.attribution.diff import AttributionDiff, attributions, verdict
    from itlens.findings.attribution.diff_template import content_only, prompt_scores, template_effects
    from itlens.findings.behaviour.diff import behaviour_links, behaviour_openings, behaviour_tests
    from itlens.findings.divergence.diff import (
        divergence_blocks,
        divergence_depth,
        divergence_effects,
        divergence_tests,
        partings,
    )
    from itlens.findings.faithfulness.diff import compare_faithfulness as faithfulness
    from itlens.findings.faithfulness.diff import faithfulness_curves
    from itlens.findings.faithfulness.diff_verdict import faithfulness_verdict
    from itlens.findings.logit_diff.diff import group_changes, token_changes, token_themes
    from itlens.findings.mlp.diff import compare_concepts as concepts
    from itlens.findings.mlp.diff_labels import concept_shares
    from itlens.findings.mlp.diff_listing import concept_changes
    from itlens.findings.mlp.diff_verdict import concepts_verdict
    from itlens.findings.patching.diff import patch_groups, patching_verdict
    from itlens.findings.patching.diff_agreement import head_agreement, top_heads
    from itlens.findings.task_words.diff import task_changes, task_gains
    from itlens.findings.token_shift.diff import (
        shift_depth,
        shift_kinds,
        shift_places,
        shift_shares,
        shifted_tokens,
        token_shift_tests,
    )
    from itlens.stats.groups import paired
    from itlens.stats.linearity import linearity_table as linearity
    from itlens.stats.series import ModelSeries, series, series_verdict
    from itlens.stats.two_by_two import TemplateEffects, template_verdict, two_by_two
