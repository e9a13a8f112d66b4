"""A finding from outside, whole: are the gains of the norms before attention larger after tuning?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import itlens


class Louder(itlens.Finding):
    """One number per layer: the length of the gain of the norm before attention."""

    name, reads, unit = "louder", "weights", "layers"
    question = "Are the gains before attention larger after tuning?"

    @dataclass(frozen=True)
    class Options:
        volume: float = itlens.option(1.0, help="Factor on every gain.", at_least=0)
        loud: float = itlens.option(9.0, help="Gains above this count as loud.", identity=False)

    def units(self, plan: Any) -> Sequence[str]:
        return [f"layer-{layer:02d}" for layer in plan.layers]

    def run(self, source: Any, unit: str, plan: Any) -> xr.Dataset:
        gain = source.attention(int(unit[6:])).gain.float().norm()
        return xr.Dataset({"gain": float(gain) * plan.options.volume})

    def compare(self, saved: Any, plan: Any) -> Mapping[str, Any]:
        rows = [{side: float(saved[side][unit].gain) for side in ("base", "tuned")} for unit in saved["base"]]
        table = pd.DataFrame(rows, index=pd.Index(range(len(rows)), name="layer")).reset_index()
        return {"gains": table.assign(loud=table["tuned"] > plan.options.loud)}

    def verdict(self, tables: Any) -> itlens.Verdict:
        difference = float(np.mean(tables["gains"]["tuned"] - tables["gains"]["base"]))
        number = itlens.Headline("mean difference of the gains", difference, n=len(tables["gains"]))
        direction = "higher" if difference > 0 else "lower"
        return itlens.Verdict(f"Gains moved by {difference:+.3f}.", direction, tested=False, numbers=(number,))

    def show(self, tables: Any) -> Sequence[Any]:
        return [itlens.views.table(tables["gains"], title="Gains by layer")]

    def notes(self, tables: Any, plan: Any) -> Sequence[str]:
        return ["Gains are <b>not</b> tested: layers are no sample."]
