"""Probes: functions of ONE model and an input that return labelled data. They never see a pair, draw, or save."""
