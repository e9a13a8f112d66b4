"""Views: functions of results that return what Jupyter displays; they never compute, show or write.

Figures (plotly.graph_objects.Figure): `scores`, `groups`, `profile`, `sensitivity`, `heatmap`. Token views (offline
HTML): `tokens`, `token_pair`. The page of a whole comparison: `report`.
"""

from __future__ import annotations

from itlens.views.curve_charts import profile, sensitivity
from itlens.views.map_chart import heatmap
from itlens.views.prompt_charts import groups, scores
from itlens.views.report_content import Example, ReportContent
from itlens.views.report_page import Report, report
from itlens.views.token_view import TokenView, token_pair, tokens

__all__ = [
    "Example",
    "Report",
    "ReportContent",
    "TokenView",
    "groups",
    "heatmap",
    "profile",
    "report",
    "scores",
    "sensitivity",
    "token_pair",
    "tokens",
]
