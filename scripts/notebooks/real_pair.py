# %% [markdown]
# # A tour of a real pair
#
# gemma-3-270m (18 layers, 4 heads, d_model 640, vocabulary 262,144) and the same model with a LoRA adapter of rank 32, trained on 2,684 pairs of
# instruction and response. The outputs below were computed on two CPU cores. To run it, set `ITLENS_REAL_BASE` to the base's folder and
# `ITLENS_REAL_ADAPTER` to an adapter for it; the models are not part of this project (Gemma's terms apply to them).

# %%
import os

import itlens
from itlens import views

form = "### Instruction:\n{prompt}\n\n### Response:\n"  # what the adapter was trained with
pair = itlens.load_pair(os.environ["ITLENS_REAL_BASE"], adapter=os.environ["ITLENS_REAL_ADAPTER"])
task = "Name the capital of the country."
prompt = itlens.Prompt(f"{task}\nFrance", instruction=task, id="capital")
(asked,) = itlens.format_prompts([prompt], form)

# %% [markdown]
# ## The same prompt under both

# %%
base = itlens.attribute(pair.base, asked, max_new_tokens=8)
print(repr(base.attrs["response_text"]))

# %%
tuned = itlens.attribute(pair.tuned, asked, max_new_tokens=8)
print(repr(tuned.attrs["response_text"]))

# %%
scores = {
    name: float(itlens.span_score(itlens.importance_density(result), itlens.span_mask(result, asked)))
    for name, result in (("base", base), ("tuned", tuned))
}
views.token_pair(base, tuned, asked)

# %% [markdown]
# The instruction scores {{scores["base"]:.2f}} under the base and {{scores["tuned"]:.2f}} under the tuned model. One prompt is an anecdote: `itlens.compare` tests many.
#
# ## One head, in words

# %%
words = itlens.Vocabulary.load("builtin", size=1500)
pairs = itlens.qk_word_pairs(pair.tuned, words, layers=9, heads=1)
pairs.nlargest(8, "relatedness")[["dim", "query", "key", "relatedness"]]

# %% [markdown]
# {{len(pairs):,}} pairs of related words in {{pairs["dim"].nunique()}} of 256 dimensions of head L9H1: what the head *could* relate, measured on raw embeddings.
#
# ## Where it looks

# %%
patterns = itlens.attention_patterns(pair.tuned, asked, layer=9)
first = patterns["pattern"].isel(key=0).mean("query").squeeze()
first.to_series().round(2)
