"""Views: functions of results that return what Jupyter displays; they never compute, show or write.

Figures (plotly.graph_objects.Figure): `scores`, `groups`, `profile`, `sensitivity`, `heatmap` of attribution, `heads`,
`verbs` of attention, `angles`, `shares` of concepts. Offline HTML: `tokens`, `token_pair`, `word_pairs`, `concepts`.
The page of a whole comparison: `report`.
"""

from __future__ import annotations

from itlens.views.angle_chart import angles
from itlens.views.concept_cards import ConceptCards, concepts
from itlens.views.curve_charts import profile, sensitivity
from itlens.views.head_map import heads
from itlens.views.map_chart import heatmap
from itlens.views.pair_table import PairTable, word_pairs
from itlens.views.prompt_charts import groups, scores
from itlens.views.report_concept_words import card_layers
from itlens.views.report_content import ConceptContent, Example, ReportContent, WordContent
from itlens.views.report_page import Report, report
from itlens.views.share_bars import shares
from itlens.views.token_view import TokenView, token_pair, tokens
from itlens.views.verb_bars import verbs

__all__ = [
    "ConceptCards",
    "ConceptContent",
    "Example",
    "PairTable",
    "Report",
    "ReportContent",
    "TokenView",
    "WordContent",
    "angles",
    "card_layers",
    "concepts",
    "groups",
    "heads",
    "heatmap",
    "profile",
    "report",
    "scores",
    "sensitivity",
    "shares",
    "token_pair",
    "tokens",
    "verbs",
    "word_pairs",
]
