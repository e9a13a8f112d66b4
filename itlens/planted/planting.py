"""`itlens selftest`: plant known changes into a model, run every probe, and count what is found.

1. CALIBRATION: pairs of the model with itself under random noise everywhere, a new draw each: the scale and the
   threshold of each detector (`scoring`). 2. IDENTICAL: the model with itself; nothing may be found. 3. For each repeat
   a new draw of noise: the pair without a plant (units found there are false), then the same noise with each plant at
   each strength in a random unit (`plants`). 4. The plants again without any noise. 5. Recall, false discoveries,
   AUROC by plant, detector and strength (`result`); p-values of noisy copies where nothing is to be found (`pairs`).
A detector reads every strength of the plants that it is meant to see (one that runs the model in half of the repeats,
and two thirds of the calibration), and of the others the strongest, in a quarter of the repeats. Afterwards the model
has its own weights again, bit by bit. The detectors are those of the findings (`Finding.detectors`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import xarray as xr

from itlens.errors import ProbeError
from itlens.models import HookedModel, load_model, source_of
from itlens.planted.altering import PlantableModel
from itlens.planted.pairs import PairReader
from itlens.planted.result import checked_path, selftest_result, write_selftest
from itlens.planted.setup import Choices, PlantingSetup, set_up
from itlens.progress import late_bar
from itlens.prompts import Prompt, load_prompts
from itlens.results.provenance import provenance

_EMBEDDED = Path(__file__).parents[1] / "demo" / "base"
_SelftestPrompts: TypeAlias = str | Path | Prompt | Iterable[Prompt] | None


def selftest(
    model: HookedModel | str | Path | None = None,
    *,
    probes: str | Sequence[str] = "all",
    plants: str | Sequence[str] = "all",
    strengths: float | Sequence[float] | None = None,
    repeats: int | None = None,
    seed: int = 0,
    prompts: _SelftestPrompts = None,
    out: str | Path | None = None,
    noise: float = 0.01,
    calibration: int | None = None,
    level: float = 0.05,
    limit: int | None = None,
    targets: int | None = None,
    words: int | None = None,
    most_layers: int | None = None,
    thorough: bool = False,
    progress: bool | Callable[[int, int], None] = True,
    **load: Any,
) -> xr.Dataset:
    """Plant known changes into a model; report which probes find them, and how often they find what is not there.

    model: hub id, folder or loaded model (default: the embedded base); load: further arguments of `load_model`. probes,
    plants: "all" or names (`itlens.planted.setup.all_detectors`, `itlens.planted.plants.PLANTS`). strengths: of a
    plant, in units of the noise on the same weights (`itlens.planted.plants`); default 0.25 (less than the noise), 2,
    16, 64 (strong: two thirds of the norm of these weights, with noise=0.01). noise: its standard deviation as a share
    of each tensor's root mean square. repeats: planted pairs of each kind, in random units. calibration: noise-only
    pairs that the thresholds come from. level: the intended rate of false discoveries. prompts: `Prompt` objects, a
    file or "builtin" (default; "demo" for the embedded base), of which the `limit` shortest are used, with the model's
    own response of `targets` tokens. words: of the built-in vocabulary. most_layers: how many layers at most, evenly
    spread. thorough: more of everything. out: write this .json, and a picture (.html) beside it. progress: a bar, or a
    function that is called with (done, all).

    Returns, on (plant, probe, strength): recall with recall_low, recall_high, false_discoveries, false_pairs, auroc,
    rank (`itlens.planted.scoring`), trials (pairs read); recall is NaN where the detector has no unit of the plant's
    kind. On (plant, probe): meant (whether the probe is meant to see it), clean_first (share of plants without noise
    whose unit comes first, at the highest strength). On (probe): units, threshold (of the excess over noise), identical
    (the largest value between identical models), null_false_pairs, _low, _high (noise-only pairs in which anything was
    found), seconds (per whole reading). On (scope), "all" and each probe, at the strongest plants: overall_recall,
    overall_false, each with _low and _high, overall_trials (`itlens.planted.result`). On (test), p-values of two noisy
    copies, exchanged at random (`itlens.stats.p_values`): p_count, p_pairs (of copies), p_share (<= 0.05), p_share_low,
    p_share_high, p_ks, p_ks_p (`uniformity` there); p_changed_share (<= 0.05 without the exchange), p_identical (the
    smallest between identical models). Everything but seconds follows from the seed. Raises a subclass of ItlensError.
    """
    choices = Choices.of(
        probes, plants, strengths, thorough=thorough, repeats=repeats, calibration=calibration, limit=limit,
        targets=targets, words=words, most_layers=most_layers, seed=seed, noise=noise, level=level,
    )  # fmt: skip
    prompt_list = _prompts(prompts, "demo" if model is None else "builtin")
    path = checked_path(out)
    loaded = cast(PlantableModel, load_model(str(_EMBEDDED) if model is None else model, **load))
    setup = set_up(loaded, prompt_list, choices)
    with late_bar("selftest", show=progress is True) as bar:
        readings = PairReader(setup, choices, progress if callable(progress) else bar).run()
        result = selftest_result(readings, choices).assign_attrs(_attrs(loaded, setup, choices))
    if path is not None:
        write_selftest(result, path)
    return result


def _prompts(prompts: _SelftestPrompts, default: str) -> list[Prompt]:
    if prompts is None or isinstance(prompts, (str, Path)):
        return load_prompts(default if prompts is None else prompts)
    listed: list[object] = list(prompts) if isinstance(prompts, Iterable) else [prompts]
    checked = [prompt for prompt in listed if isinstance(prompt, Prompt)]
    if len(checked) < len(listed) or not listed:
        wrong = next((prompt for prompt in listed if not isinstance(prompt, Prompt)), None)
        got = f"a {type(wrong).__name__}" if listed else "none"
        raise ProbeError(f"prompts: expected itlens.Prompt objects, a file or a name, got {got}.")
    return checked


def _attrs(model: HookedModel, setup: PlantingSetup, choices: Choices) -> dict[str, object]:
    source = source_of(model)
    return provenance(
        "selftest", model=source.name, revision=source.revision, adapter=source.adapter, backend=source.backend,
        dtype=source.dtype, device=source.device, noise=choices.noise, repeats=choices.repeats,
        calibration=choices.calibration, level=choices.level, seed=choices.seed,
        layers=", ".join(map(str, setup.layers)), prompts=", ".join(prompt.id for prompt in setup.prompts),
        targets=choices.targets, vocabulary=setup.vocabulary.name, vocabulary_size=len(setup.vocabulary),
    )  # fmt: skip
