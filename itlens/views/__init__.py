"""Views: functions of results that return what Jupyter displays; they never compute, show or write.

Figures (plotly.graph_objects.Figure): `scores`, `groups`, `profile`, `sensitivity`, `heatmap` of attribution, `heads`,
`verbs` of attention, `angles`, `shares` of concepts, `activations`, `shift`, `patching`, `estimates` of running models,
`faithfulness`, `effects`, `series`, `selftest`. Offline HTML: `tokens`, `token_pair`, `word_pairs`, `concepts`.
The page of a whole comparison: `report`; of several: `overview`.
"""

from __future__ import annotations

from itlens.views.activation_map import activations
from itlens.views.activation_shift_map import shift
from itlens.views.angle_chart import angles
from itlens.views.concept_cards import ConceptCards, concepts
from itlens.views.curve_charts import profile, sensitivity
from itlens.views.effect_chart import effects
from itlens.views.estimate_chart import estimates
from itlens.views.faithfulness_chart import faithfulness
from itlens.views.head_map import heads
from itlens.views.map_chart import heatmap
from itlens.views.overview_content import OverviewContent, OverviewSection
from itlens.views.overview_page import Overview, overview
from itlens.views.pair_table import PairTable, word_pairs
from itlens.views.patch_map import patching
from itlens.views.prompt_charts import groups, scores
from itlens.views.report_concept_words import card_layers
from itlens.views.report_content import ConceptContent, Example, ReportContent, WordContent
from itlens.views.report_page import Report, report
from itlens.views.running_content import ActivationContent, FaithfulnessContent, PatchContent
from itlens.views.selftest_chart import selftest
from itlens.views.series_chart import series
from itlens.views.share_bars import shares
from itlens.views.token_view import TokenView, token_pair, tokens
from itlens.views.verb_bars import verbs

__all__ = [
    "ActivationContent",
    "ConceptCards",
    "ConceptContent",
    "Example",
    "FaithfulnessContent",
    "Overview",
    "OverviewContent",
    "OverviewSection",
    "PairTable",
    "PatchContent",
    "Report",
    "ReportContent",
    "TokenView",
    "WordContent",
    "activations",
    "angles",
    "card_layers",
    "concepts",
    "effects",
    "estimates",
    "faithfulness",
    "groups",
    "heads",
    "heatmap",
    "overview",
    "patching",
    "profile",
    "report",
    "scores",
    "selftest",
    "sensitivity",
    "series",
    "shares",
    "shift",
    "token_pair",
    "tokens",
    "verbs",
    "word_pairs",
]
