# %% [markdown]
# # A finding of your own
#
# A **finding** is one question, as one object: options, units of work, comparison, verdict, and what it shows. `compare`, resume, tables, the report,
# the terminal and `--help` are loops over findings, so a new one needs no change in itlens. The question here: *do feed-forward neurons write longer
# vectors after tuning?*

# %%
from dataclasses import dataclass

import pandas as pd
import xarray as xr

import itlens
from itlens import demo


class Lengths(itlens.Finding):
    """Median length of the value vectors (rows of W_out), layer by layer."""

    name = "lengths"
    question = "Do neurons write longer vectors after tuning?"
    topic = "the length of value vectors"
    reads = "weights"
    unit = "layers"

    @dataclass(frozen=True)
    class Options:
        quantile: float = itlens.option(0.5, help="Quantile over the neurons of a layer.", at_least=0)

    def units(self, plan):
        return [f"layer-{layer:02d}" for layer in plan.layers]

    def run(self, source, unit, plan):
        lengths = source.mlp(int(unit.removeprefix("layer-"))).W_out.double().norm(dim=-1)
        return xr.Dataset({"length": float(lengths.quantile(plan.options.quantile))})

    def compare(self, saved, plan):
        rows = [(float(saved["base"][unit].length), float(saved["tuned"][unit].length)) for unit in saved["base"]]
        table = pd.DataFrame(rows, columns=["base", "tuned"]).rename_axis("id").reset_index()
        return {"lengths": table, "lengths_tested": itlens.diff.paired(table, seed=plan.seed)}

    def verdict(self, tables):
        row = tables["lengths_tested"].iloc[0]
        number = itlens.Headline("mean difference", row.difference, row.ci_low, row.ci_high, row.p_paired, int(row.n))
        if not row.p_paired < 0.05:
            return itlens.Verdict(f"No significant change: {row.difference:+.4f} on average.", numbers=(number,))
        way = "higher" if row.difference > 0 else "lower"
        sentence = (
            f"Value vectors are {'longer' if way == 'higher' else 'shorter'} after tuning, by {row.difference:+.4f}."
        )
        return itlens.Verdict(sentence, way, numbers=(number,))

    def show(self, tables):
        return [itlens.views.table(tables["lengths"], title="Median length by layer")]


finding = itlens.register(Lengths)

# %% [markdown]
# That is all. It now is a probe like any other, with `--quantile` on the command line:

# %%
comparison = itlens.compare(demo.base_path(), demo.tuned_path(), probes="lengths", out="runs/lengths", progress=False)
row = comparison.results["lengths"]["lengths_tested"].iloc[0]
print(comparison.verdicts["lengths"].sentence)

# %% [markdown]
# Over {{int(row.n)}} layers the median length is {{row.base_mean:.3f}} in the base and {{row.tuned_mean:.3f}} in the tuned model, p = {{row.p_paired:.3f}}. Layers are no random
# sample, so the test says how uniform the change is, not how general.

# %%
comparison.results["lengths"]["lengths"].round(3)

# %% [markdown]
# `runs/lengths/report.html` has its section, `tables/lengths.csv` its numbers, `findings.json` its verdict. The page "Add a
# finding" of the documentation says what else a finding can declare.
