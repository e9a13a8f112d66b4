"""Probes: functions of ONE model and an input that return labelled data. They never see a pair, draw, or save.

The pair probes `shift` and `patching` are the exception: their question needs both models on the same tokens.
A file of this folder is a probe or what several probes share; a folder in it holds the parts of one probe.
"""
