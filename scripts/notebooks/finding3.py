# %% [markdown]
# # Did what feed-forward layers write rotate, and toward what?
#
# Finding 3 of the paper: tuning rotates the knowledge of feed-forward layers toward user tasks. The main directions of what a layer's neurons
# write, read in words, are its *concepts*. They have no reliable order and no sign, so models are compared as subspaces.

# %%
import itlens
from itlens import demo, views

words = itlens.Vocabulary.load("builtin", size=2500)
base = itlens.load_model(demo.base_path())
tuned = itlens.load_model(demo.tuned_path())
base_concepts = itlens.mlp_concepts(base, words, components=50, resamples=2)
tuned_concepts = itlens.mlp_concepts(tuned, words, components=50, resamples=2)
rotation = itlens.diff.concepts(base_concepts, tuned_concepts)
views.angles(rotation)

# %% [markdown]
# 1 is the same space, the dashed line random spaces of the same size, the band each model compared with itself after resampling its neurons. A layer
# rotated where its mark is below the band. For the first {{int(rotation.k.values[-1])}} concepts the mean overlap is
# {{float(rotation.overlap.isel(k=-1).mean()):.2f}}; of random spaces it would be {{float(rotation.random_overlap.isel(k=-1).mean()):.2f}}.
#
# ## Toward what?
#
# Word lists say what each concept is about, or "cannot tell".

# %%
base_labels = itlens.annotate_concepts(base_concepts)
tuned_labels = itlens.annotate_concepts(tuned_concepts)
shares = itlens.diff.concept_shares(base_labels, tuned_labels)
known = float(tuned_labels["known"].mean())
print(itlens.diff.concepts_verdict(rotation, shares))

# %% [markdown]
# {{100 * known:.0f}} % of the tuned model's concepts could be labelled at all, so tests of tasks have little to go by.

# %%
views.shares(shares)

# %%
both = {"base": base_concepts, "match": rotation, "labels": tuned_labels, "base_labels": base_labels}
views.concepts(tuned_concepts, layer=5, components=range(3), **both)

# %% [markdown]
# ## In the running model
#
# Weights say what a layer can write. Where does the answer appear when the model runs? Both models read the same tokens.

# %%
from itlens.hooked.tokens import forced

prompts = itlens.load_prompts("demo")[:6]
texts = forced(tuned, prompts, max_new_tokens=6)
runs = {
    name: itlens.activations(model, texts, hooks=["lens", "norms"])
    for name, model in (("base", base), ("tuned", tuned))
}
change = itlens.diff.activations(runs["base"], runs["tuned"])
views.activations(change, statistic="lens_logprob")

# %% [markdown]
# After the last layer the tuned model gives its own responses a log-probability that is higher by
# {{float(change.lens_logprob.sel(group="all", measure="difference").isel(layer=-1)):.1f}} nats per token than the base's. That is no surprise: they are its responses.
# The figure says from which layer on the difference is there.
