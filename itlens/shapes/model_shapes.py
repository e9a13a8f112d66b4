"""The shapes of known models, their tokenizer of whole words, and a Hugging Face model of random values.

SMOLLM2_135M is what a laptop runs, LLAMA_7B what only weights are read of. A word is a token here ("the" is token 3):
the tokenizer knows the built-in vocabulary, the most frequent words first, and "w21000", "w21001", ... where a model
has more tokens than there are words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from itlens.vocabulary import Vocabulary, WordVectors

_SPECIAL = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class ModelShape:
    """Layers, heads and widths of a Llama. name: for tables ("135M shape"). tied: whether the unembedding is the
    embedding."""

    name: str
    layers: int
    heads: int
    key_value_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    vocabulary: int
    tied: bool
    norm_eps: float

    def config(self, layers: int | None = None) -> Any:
        """Return the Hugging Face config. layers: default all."""
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.d_model,
            intermediate_size=self.d_mlp,
            num_hidden_layers=self.layers if layers is None else layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            head_dim=self.d_head,
            max_position_embeddings=2048,
            tie_word_embeddings=self.tied,
            rms_norm_eps=self.norm_eps,
            initializer_range=0.04,
            bos_token_id=1,
            eos_token_id=2,
            architectures=["LlamaForCausalLM"],
        )

    def facts(self, layers: int | None = None) -> dict[str, Any]:
        """Return what `itlens.weights.Weights.facts` holds of such a model."""
        from itlens.models.architectures import config_facts

        return config_facts(self.config(layers))

    def words(self, count: int | None = None) -> list[str]:
        """Return the first `count` words that the tokenizer knows, from frequent to rare; default all."""
        room = self.vocabulary - len(_SPECIAL)
        known = Vocabulary.load("builtin").words[:room]
        listed = [*known, *(f"w{number}" for number in range(len(known), room))]
        return listed[:count]

    def tokenizer(self) -> Any:
        """Return the tokenizer: one token a word."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        ids = {word: number for number, word in enumerate([*_SPECIAL, *self.words()])}
        tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>"
        )

    def hf_model(self, layers: int | None = None, *, seed: int = 0) -> Any:
        """Return a Hugging Face model of random values in float32."""
        import torch
        from transformers import LlamaForCausalLM

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LlamaForCausalLM(self.config(layers)).eval()


SMOLLM2_135M = ModelShape("135M shape", 30, 9, 3, 576, 64, 1536, 49_152, tied=True, norm_eps=1e-5)
LLAMA_7B = ModelShape("7B shape", 32, 32, 32, 4096, 128, 11_008, 32_000, tied=False, norm_eps=1e-6)
LLAMA_1B = ModelShape("1B shape", 16, 16, 16, 2048, 128, 5504, 32_000, tied=False, norm_eps=1e-6)  # half as wide
SHAPES = {"135m": SMOLLM2_135M, "1b": LLAMA_1B, "7b": LLAMA_7B}


def word_vectors_of(words: Sequence[str]) -> WordVectors:
    """Return word vectors for any words: the built-in ones in order and, beyond their number, means of two of them."""
    own = WordVectors.load("builtin").vectors
    first, second = np.random.default_rng(0).integers(0, len(own), (2, max(0, len(words) - len(own))))
    return WordVectors(list(words), np.concatenate([own, (own[first] + own[second]) / 2])[: len(words)])
