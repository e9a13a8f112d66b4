"""Views: functions of results that return what Jupyter displays; they never compute, show or write. Names load on
first use.

Figures (plotly.graph_objects.Figure): `scores`, `groups`, `profile`, `sensitivity`, `heatmap` of attribution, `heads`,
`verbs` of attention, `angles`, `shares` of concepts, `activations`, `shift`, `patching`, `estimates` of models that
run, `faithfulness`, `token_shift`, `divergence`, `activation_difference`, `difference_dial`, `logit_diff`, `effects`,
`series`, `selftest`. Panels (offline HTML): `attention`, `tokens`, `token_pair`, `shifted_response`, `word_pairs`,
`concepts`. Blocks of a finding's section: `card`, `figure`,
`table`, `text`, and `Column`. The page of a comparison: `report`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from itlens.lazy import lazy_names

_HOME = {
    "attention": "itlens.findings.activation.view_patterns",
    "AttentionView": "itlens.findings.activation.view_patterns",
    "activations": "itlens.findings.activation.view:activations_figure",
    "shift": "itlens.findings.activation.view_shift",
    "heads": "itlens.findings.attention.view",
    "word_pairs": "itlens.findings.attention.view_pairs:word_pair_panel",
    "PairTable": "itlens.findings.attention.view_pairs",
    "verbs": "itlens.findings.attention.view",
    "groups": "itlens.findings.attribution.view",
    "profile": "itlens.findings.attribution.view",
    "scores": "itlens.findings.attribution.view",
    "sensitivity": "itlens.findings.attribution.view",
    "heatmap": "itlens.findings.attribution.view_map",
    "tokens": "itlens.findings.attribution.view_tokens",
    "token_pair": "itlens.findings.attribution.view_tokens",
    "TokenView": "itlens.findings.attribution.view_tokens",
    "faithfulness": "itlens.findings.faithfulness.view:faithfulness_figure",
    "angles": "itlens.findings.mlp.view",
    "concepts": "itlens.findings.mlp.view_cards:concept_cards",
    "ConceptCards": "itlens.findings.mlp.view_cards",
    "card_layers": "itlens.findings.mlp.vectors",
    "shares": "itlens.findings.mlp.view_tasks",
    "estimates": "itlens.findings.patching.view",
    "patching": "itlens.findings.patching.view",
    "token_shift": "itlens.findings.token_shift.view:token_shift_figure",
    "divergence": "itlens.findings.divergence.view:divergence_figure",
    "activation_difference": "itlens.findings.activation_difference.view:difference_figure",
    "difference_dial": "itlens.findings.activation_difference.view:dial_figure",
    "logit_diff": "itlens.findings.logit_diff.view:logit_figure",
    "shifted_response": "itlens.findings.token_shift.view_tokens",
    "ShiftedResponse": "itlens.findings.token_shift.view_tokens",
    "weight_heads": "itlens.findings.weight_delta.view",
    "weight_matrices": "itlens.findings.weight_delta.view",
    "task_gains": "itlens.findings.task_words.view:task_gain_map",
    "behaviour_links": "itlens.findings.behaviour.view:link_map",
    "selftest": "itlens.planted.view:selftest_figure",
    "effects": "itlens.study.view",
    "series": "itlens.study.view:draw_series",
    "Report": "itlens.study.shown",
    "report": "itlens.study.shown",
    "Column": "itlens.report.blocks",
    "card": "itlens.report.blocks",
    "figure": "itlens.report.blocks:figure_block",
    "table": "itlens.report.blocks",
    "text": "itlens.report.blocks",
}

__all__ = [
    "AttentionView",
    "Column",
    "ConceptCards",
    "PairTable",
    "Report",
    "ShiftedResponse",
    "TokenView",
    "activation_difference",
    "activations",
    "angles",
    "attention",
    "behaviour_links",
    "card",
    "card_layers",
    "concepts",
    "difference_dial",
    "divergence",
    "effects",
    "estimates",
    "faithfulness",
    "figure",
    "groups",
    "heads",
    "heatmap",
    "logit_diff",
    "patching",
    "profile",
    "report",
    "scores",
    "selftest",
    "sensitivity",
    "series",
    "shares",
    "shift",
    "shifted_response",
    "table",
    "task_gains",
    "text",
    "token_pair",
    "token_shift",
    "tokens",
    "verbs",
    "weight_heads",
    "weight_matrices",
    "word_pairs",
]


__getattr__, __dir__ = lazy_names(__name__, _HOME)

if TYPE_CHECKING:
    from itlens.findings.activation.view import activations_figure as activations
    from itlens.findings.activation.view_patterns import AttentionView, attention
    from itlens.findings.activation.view_shift import shift
    from itlens.findings.activation_difference.view import dial_figure as difference_dial
    from itlens.findings.activation_difference.view import difference_figure as activation_difference
    from itlens.findings.attention.view import heads, verbs
    from itlens.findings.attention.view_pairs import PairTable
    from itlens.findings.attention.view_pairs import word_pair_panel as word_pairs
    from itlens.findings.attribution.view import groups, profile, scores, sensitivity
    from itlens.findings.attribution.view_map import heatmap
    from itlens.findings.attribution.view_tokens import TokenView, token_pair, tokens
    from itlens.findings.behaviour.view import link_map as behaviour_links
    from itlens.findings.divergence.view import divergence_figure as divergence
    from itlens.findings.faithfulness.view import faithfulness_figure as faithfulness
    from itlens.findings.logit_diff.view import logit_figure as logit_diff
    from itlens.findings.mlp.vectors import card_layers
    from itlens.findings.mlp.view import angles
    from itlens.findings.mlp.view_cards import ConceptCards
    from itlens.findings.mlp.view_cards import concept_cards as concepts
    from itlens.findings.mlp.view_tasks import shares
    from itlens.findings.patching.view import estimates, patching
    from itlens.findings.task_words.view import task_gain_map as task_gains
    from itlens.findings.token_shift.view import token_shift_figure as token_shift
    from itlens.findings.token_shift.view_tokens import ShiftedResponse, shifted_response
    from itlens.findings.weight_delta.view import weight_heads, weight_matrices
    from itlens.planted.view import selftest_figure as selftest
    from itlens.report.blocks import Column, card, table, text
    from itlens.report.blocks import figure_block as figure
    from itlens.study.shown import Report, report
    from itlens.study.view import draw_series as series
    from itlens.study.view import effects
