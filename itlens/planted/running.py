"""`itlens selftest`: plant known changes into a model, run every probe, and count what is found.

1. CALIBRATION: pairs of the model with itself under random noise everywhere, a fresh draw each: the scale and the
   threshold of each detector (`scoring`). 2. IDENTICAL: the model with itself; nothing may be found. 3. For each repeat
   a fresh draw of noise: the pair without a plant (found units are false ones), then the same noise with each plant at
   each strength in a random place (`plants`). 4. The plants again without any noise. 5. Recall, false discoveries,
   AUROC by plant, detector and strength; p-values of noisy copies where nothing is to be found (`nulls`).
A detector reads every strength of the plants that it is meant to see (one that runs the model in half of the repeats,
and two thirds of the calibration), and of the others the strongest, in a quarter of the repeats. The model is itself
again afterwards, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xarray as xr

from itlens.errors import ProbeError
from itlens.models import load_model, source_of
from itlens.planted.choices import Choices, refuse_out
from itlens.planted.ground import set_up
from itlens.planted.outcome import outcome
from itlens.planted.pairs import Bench
from itlens.planted.written import write_selftest
from itlens.progress import late_bar
from itlens.prompts import Prompt, load_prompts
from itlens.provenance import provenance

_EMBEDDED = Path(__file__).parents[1] / "demo" / "base"


def selftest(
    model: Any = None,
    *,
    probes: Any = "all",
    plants: Any = "all",
    strengths: Any = None,
    repeats: Any = None,
    seed: Any = 0,
    prompts: Any = None,
    out: str | Path | None = None,
    noise: Any = 0.01,
    calibration: Any = None,
    level: Any = 0.05,
    limit: Any = None,
    targets: Any = None,
    words: Any = None,
    most_layers: Any = None,
    thorough: bool = False,
    progress: Any = True,
    **load: Any,
) -> xr.Dataset:
    """Plant known changes into a model, and report which probes find them and how often they find what is not there.

    model: hub id, folder or loaded model (default: the embedded base); load: further arguments of `load_model`. probes,
    plants: "all" or names (`itlens.planted.probed.DETECTORS`, `itlens.planted.plants.PLANTS`). strengths: of a plant,
    in units of the noise on the same part of the weights (`itlens.planted.plants`); default 0.25 (less than the
    noise), 2, 16, 64 (strong: two thirds of the part's own norm, with noise=0.01). noise: its deviation as a share of
    each tensor's root mean square. repeats: planted pairs of each kind, in random places. calibration: noise-only pairs
    that the thresholds come from. level: the false discoveries that are aimed at. prompts: `Prompt` objects, a file or
    "builtin" (default; "demo" for the embedded base), of which the `limit` shortest are used, with the model's own
    response of `targets` tokens. words: of the built-in vocabulary. most_layers: so many layers, evenly spread.
    thorough: more of everything. out: write this .json, and a picture (.html) beside it.

    Returns, on (plant, probe, strength): recall with recall_low, recall_high, false_discoveries, false_pairs, auroc,
    rank (`itlens.planted.scoring`), trials (pairs read); recall is NaN where the detector has no unit of the plant's
    kind. On (plant, probe): meant (whether the probe is meant to see it), clean_first (share of plants without noise
    whose unit comes first, at the highest strength). On (probe): units, threshold (of the excess over noise), identical
    (the largest value between identical models), null_false_pairs, _low, _high (noise-only pairs in which anything was
    found), seconds (per whole reading). On (scope), "all" and each probe, at the strongest plants: overall_recall,
    overall_false, each with _low and _high, overall_trials (`itlens.planted.overall`). On (test), p-values of two noisy
    copies, exchanged at random (`itlens.planted.nulls`): p_count, p_pairs (of copies), p_share (<= 0.05), p_share_low,
    p_share_high, p_ks, p_ks_p (`itlens.planted.scoring.uniformity`); p_changed_share (<= 0.05 without the exchange),
    p_identical (the smallest between identical models). Everything but seconds follows from the seed. Raises a subclass
    of ItlensError.
    """
    asked = Choices.of(
        probes, plants, strengths, thorough=thorough, repeats=repeats, calibration=calibration, limit=limit,
        targets=targets, words=words, most_layers=most_layers, seed=seed, noise=noise, level=level,
    )  # fmt: skip
    listed = _prompts(prompts, "demo" if model is None else "builtin")
    path = refuse_out(out)
    loaded = load_model(str(_EMBEDDED) if model is None else model, **load)
    setup = set_up(loaded, listed, asked)
    with late_bar("selftest", show=progress is True) as bar:
        bench = Bench(setup, asked, progress if callable(progress) else bar)
        found = outcome(bench.run(), asked)
    result = found.assign_attrs(_attrs(loaded, setup, asked))
    if path is not None:
        write_selftest(result, path)
    return result


def _prompts(given: Any, usual: str) -> list[Prompt]:
    if given is None or isinstance(given, (str, Path)):
        return load_prompts(usual if given is None else given)
    listed = [given] if isinstance(given, Prompt) else list(given) if isinstance(given, Iterable) else [given]
    wrong = next((one for one in listed if not isinstance(one, Prompt)), None)
    if wrong is not None or not listed:
        got = f"a {type(wrong).__name__}" if listed else "none"
        raise ProbeError(f"prompts: expected itlens.Prompt objects, a file or a name, got {got}.")
    return listed


def _attrs(model: Any, setup: Any, asked: Choices) -> dict[str, Any]:
    source = source_of(model)
    return provenance(
        "selftest", model=source.name, revision=source.revision, adapter=source.adapter, backend=source.backend,
        dtype=source.dtype, device=source.device, noise=asked.noise, repeats=asked.repeats,
        calibration=asked.calibration, level=asked.level, seed=asked.seed,
        layers=", ".join(map(str, setup.layers)), prompts=", ".join(prompt.id for prompt in setup.prompts),
        targets=asked.targets, vocabulary=setup.vocabulary.name, vocabulary_size=len(setup.vocabulary),
    )  # fmt: skip
