"""The table of detectors: one line for each probe that a selftest runs."""

from __future__ import annotations

from itlens.planted.detectors import Detector
from itlens.planted.running_detectors import Attribution, Patching
from itlens.planted.shift_detectors import HeadShift, LayerShift, PatternShift
from itlens.planted.weight_detectors import Concepts, KeyConcepts, WordPairs

DETECTORS: dict[str, type[Detector]] = {
    detector.name: detector
    for detector in (WordPairs, Concepts, KeyConcepts, Attribution, HeadShift, PatternShift, LayerShift, Patching)
}
