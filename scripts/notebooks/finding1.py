# %% [markdown]
# # Does tuning make the model lean on the instruction?
#
# Finding 1 of [Wu et al., NAACL 2024](https://arxiv.org/abs/2310.00492): after instruction tuning, a model's answers are driven more by the
# instruction in the prompt. This notebook asks the embedded pair (a toy; it runs offline in a minute). For a pair of your own, change the
# two paths: anything that `itlens.load_model` takes.

# %%
import itlens
from itlens import demo, views

pair = itlens.load_pair(demo.base_path(), demo.tuned_path())
prompts = itlens.load_prompts("demo")[:10]
prompts[0]

# %% [markdown]
# ## One prompt, one model
#
# `attribute` lets the model answer and computes for every response token how much each prompt token drove its probability (input x gradient).
# The result is an `xarray.Dataset` with labelled axes: `source` are the prompt's tokens, `target` the response's.

# %%
tuned = [itlens.attribute(pair.tuned, prompt, max_new_tokens=8) for prompt in prompts]
print(dict(tuned[0].sizes), repr(tuned[0].attrs["response_text"]))

# %%
views.tokens(tuned[0], prompt=prompts[0])

# %% [markdown]
# The same as a map: every prompt token against every response token. One number says how much lies on the instruction, the paper's score.

# %%
views.heatmap(tuned[0])

# %%
density = itlens.importance_density(tuned[0])
score = float(itlens.span_score(density, itlens.span_mask(tuned[0], prompts[0])))

# %% [markdown]
# Here the score is {{score:.2f}}.
#
# ## Base against tuned
#
# Both models read the same prompts. Reading `pair.base` releases the tuned model: one is in memory at a time.

# %%
base = [itlens.attribute(pair.base, prompt, max_new_tokens=8) for prompt in prompts]
diff = itlens.diff.attributions(base, tuned, prompts)
total = diff.groups.iloc[0]
print(itlens.diff.verdict(diff))

# %% [markdown]
# Over {{int(total.n)}} prompts the mean is {{total.base_mean:.2f}} in the base and {{total.tuned_mean:.2f}} in the tuned model: a difference of
# {{total.difference:+.2f}} (paired t-test p = {{total.p_paired:.2f}}). With ten prompts the interval is wide. Each prompt is a point below; above the diagonal the tuned model leans more on the instruction.

# %%
views.scores(diff.prompts)

# %%
views.token_pair(base[0], tuned[0], prompts[0])

# %% [markdown]
# Does the answer depend on the score's two settings, the cut-off b and the power p? A robust difference depends on neither.

# %%
views.sensitivity(diff.sensitivity)

# %% [markdown]
# ## Weights or chat template?
#
# A tuned model is mostly used with its template. Reading both models both ways separates the two.

# %%
from itlens.prompts import frame_prompts

few = prompts[:5]
framed = frame_prompts(few, "chat", itlens.models.source_of(pair.tuned).tokenizer)
texts = {"off": few, "on": [frame.prompt for frame in framed]}
cells = {}
for side in ("base", "tuned"):
    for state, these in texts.items():
        cells[side, state] = [itlens.attribute(getattr(pair, side), prompt, max_new_tokens=6) for prompt in these]
effects = itlens.diff.template_effects(cells, few, framed).effects
views.effects(effects)

# %% [markdown]
# ## How to read this
#
# - Attribution is evidence about the model, not the reason for its answer. `itlens.faithfulness` tests it by deleting tokens.
# - Each model was read on its own answer. `responses="tuned"` in `itlens.compare` reads both on the same one.
# - `itlens.compare(base, tuned, prompts, out="runs/mine")` does all of this for many prompts, keeps what is finished, and writes `report.html`.
