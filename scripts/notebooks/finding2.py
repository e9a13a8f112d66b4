# %% [markdown]
# # Do heads relate the verbs of instructions?
#
# Finding 2 of the paper: after tuning, attention heads bring more words together with the verbs of instructions, such as *write* or *explain*. A
# head's query and key weights alone say which words it relates; no prompt is needed.

# %%
import itlens
from itlens import demo, views

base = itlens.load_model(demo.base_path())
tuned = itlens.load_model(demo.tuned_path())
words = itlens.Vocabulary.load("builtin", size=2500)  # the most frequent ones, to be quick; the default is 20,000
vectors = itlens.WordVectors.load("builtin")

# %%
base_pairs = itlens.qk_word_pairs(base, words, vectors=vectors)
tuned_pairs = itlens.qk_word_pairs(tuned, words, vectors=vectors)
tuned_pairs.nlargest(6, "relatedness")[["layer", "head", "dim", "query", "key", "relatedness"]]

# %% [markdown]
# {{len(tuned_pairs):,}} pairs in {{tuned_pairs.groupby(["layer", "head"], observed=True).ngroups}} heads of the tuned model. What did tuning change?

# %%
change = itlens.diff.word_pairs(base_pairs, tuned_pairs)
total = change.sel(group="all")
print(itlens.diff.pairs_verdict(change))

# %% [markdown]
# Among the heads where their number changed, an instruction verb's number rose in {{100 * float(total.instruction_share):.0f}} % and another verb's in
# {{100 * float(total.general_share):.0f}} %. Random sets of verbs and exchanged models differ as much with a probability of
# {{float(total.p_null):.2f}}. Every head, with what it gained and lost first when you point at it:

# %%
views.heads(change, changes=itlens.diff.pair_changes(base_pairs, tuned_pairs))

# %%
views.verbs(change)

# %% [markdown]
# ## From a finding to a head

# %%
moved = itlens.diff.moved_heads(change)
layer, head = (int(number) for number in moved.loc[0, ["layer", "head"]])
views.word_pairs(base_pairs, tuned_pairs, layer=layer, head=head, top=8)

# %% [markdown]
# The head whose pairs changed most is L{{layer}}H{{head}}. Word pairs are what a head *could* relate. Where does it look, on a prompt?

# %%
patterns = itlens.attention_patterns(tuned, "Translate into French: the cat sleeps", layer=layer)
first = float(patterns["pattern"].sel(layer=layer, head=head).isel(key=0).mean())

# %% [markdown]
# It puts {{100 * first:.0f}} % of its attention on the first token of this prompt, on average. Does it matter? Put it into the base and see how much likelier the
# tuned model's answer becomes.

# %%
pair = itlens.load_pair(demo.base_path(), demo.tuned_path(), keep_both=True)
patched = itlens.patch(pair, itlens.load_prompts("demo", limit=6), layers=[layer], max_new_tokens=6, curve=False)
views.patching(patched)

# %% [markdown]
# Alone it recovers {{round(100 * float(patched.recovered.sel(layer=layer, head=head))):d}} % of the difference between the models. A head that changed need not
# carry the change; effects of heads do not add up.
