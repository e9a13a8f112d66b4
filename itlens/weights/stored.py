"""`open_weights`: the `Weights` of a checkpoint straight from its safetensors files, a layer at a time.

No model is made. 1. The config gives the architecture and the shapes; `name_maps` says which tensor holds what.
2. Every tensor that is needed must be in the files with the shape that the config says, and every tensor of the files
must have a place in such a model: what is missing or left over is named before anything is computed. 3. A layer's
tensors are views of the mapped files, cut and given the requested precision when the layer is requested. Where layers
are requested one after another, the next one is read meanwhile. 4. Vectors of words are read from the embedding by
rows. 5. An adapter is merged into each tensor in float32, when it is read.

The tensors are those of `weights_of(load_model(...))` bit for bit, in the same precision.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from itlens.errors import ModelError, first_few
from itlens.models.adapter import Adapter, read_adapter
from itlens.models.adapter_layers import AdapterLayers
from itlens.models.architectures import architecture_of, config_facts
from itlens.models.checkpoint import converted_gguf, read_model_config, resolve_tokenizer, unused_weights
from itlens.models.gguf_copy import copies, copies_are_kept
from itlens.models.load import DTYPES, dtype_name, resolve_device
from itlens.models.locate import Located, locate
from itlens.models.precision import HALF
from itlens.models.source import place_fingerprint
from itlens.models.tensor_files import TensorFiles
from itlens.models.traits import stored_precision
from itlens.tokenization import Tokenizer, TokenizerLike
from itlens.weights import AttentionWeights, MlpWeights
from itlens.weights.name_maps import HALVES, NAME_MAPS, Half, NameMap, sizes


def open_weights(
    name_or_path: str | Path,
    *,
    adapter: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    tokenizer: TokenizerLike = None,
    revision: str | None = None,
) -> StoredWeights:
    """Return the `Weights` of a checkpoint in safetensors files, without loading a model; see the module.

    name_or_path: a folder, hub id, or .gguf file (read through its converted copy in the user's cache, which is made
    first where there is none: `itlens.models.gguf_copy`). adapter: a PEFT adapter, merged tensor by tensor in float32.
    device: where tensors are handed out; default CUDA where there is one, else CPU. dtype: their precision (float32,
    float64, float16 or bfloat16), whatever that of the files. tokenizer: an object, a folder or hub id; default the one
    next to the weights; False for none. revision: of a hub id.

    Everything that reads weights takes the result in place of a model: `qk_word_pairs`, `qk_energy`, `ov_word_pairs`,
    `ov_copying`, `mlp_concepts`, `neuron_words`, `mean_vectors`, `weight_delta`. Raises ModelError: not found, no
    safetensors, an architecture that is not in `itlens.weights.name_maps`, quantised weights, files that are missing,
    broken or of another model than the config says, an adapter of another base.
    """
    if not isinstance(name_or_path, (str, Path)):
        raise ModelError(
            f"open_weights got a {type(name_or_path).__name__}; expected the folder or hub id of a checkpoint (weights "
            "of a loaded model: itlens.weights.weights_of(model))."
        )
    place = locate(name_or_path, revision=revision, weights=True)
    config = read_model_config(place)
    _refuse_config(config, place.name)
    files: Located | None = place
    if place.gguf is not None:
        files = converted_gguf(place, config)
        config = read_model_config(place)  # as the copy says it
    if files is None:
        raise ModelError(
            f"{place.name} is a .gguf file, whose weights are packed in blocks, and no converted copy of it is kept "
            "(ITLENS_NO_CACHE, or no room on the disk): load it as a model (itlens.load_model), or give the folder it "
            "was made from."
        )
    read = read_adapter(adapter) if adapter is not None else None
    own = resolve_tokenizer(tokenizer, place, adapter=read)
    return StoredWeights(place, files, config, read, own, DTYPES[dtype_name(dtype)], resolve_device(device))


def can_be_streamed(name: Any, *, revision: str | None = None) -> bool:
    """Whether `open_weights` reads this kind of checkpoint: safetensors files of a known architecture, or a .gguf file.

    What is wrong within such files is left to `open_weights`, which says so. Raises ModelError where there is no model.
    """
    if not isinstance(name, (str, Path)):
        return False
    place = locate(name, revision=revision, weights=True)
    if place.gguf is None and not any(place.folder.glob("model*.safetensors*")):
        return False
    if place.gguf is not None and not copies_are_kept():
        return False
    return architecture_of(read_model_config(place)) in NAME_MAPS


def streamed(
    name_or_path: Any,
    *,
    backend: str = "hooked",
    trust_remote_code: bool = False,
    check: bool = True,
    cache: bool = True,
    **options: Any,
) -> StoredWeights | None:
    """Return `open_weights` of what can be read so; None for what has to be loaded as a model.

    Takes the arguments of `load_model`; the backend makes no difference to weights, and there are no logits to check.
    """
    with copies(cache):
        if trust_remote_code or not can_be_streamed(name_or_path, revision=options.get("revision")):
            return None
        place = locate(name_or_path, revision=options.get("revision"), weights=True)
        if place.gguf is not None and converted_gguf(place, read_model_config(place)) is None:
            return None  # no room for a copy
        return open_weights(name_or_path, **options)


def _refuse_config(config: Any, name: str) -> None:
    said = getattr(config, "quantization_config", None)
    if said is not None:
        settings = said if isinstance(said, dict) else vars(said)
        method = getattr(settings.get("quant_method"), "value", settings.get("quant_method")) or "by its configuration"
        raise ModelError(
            f"The weights of {name} are quantised ({method}), and cannot be read as matrices; give the checkpoint it "
            "was made from, or save it dequantised."
        )
    architecture = architecture_of(config)
    if architecture not in NAME_MAPS:
        known = ", ".join(known.removesuffix("ForCausalLM").removesuffix("LMHeadModel") for known in NAME_MAPS)
        raise ModelError(
            f"{name} has the architecture {architecture}, whose files open_weights cannot read; it knows {known}: load "
            "it as a model (itlens.load_model)."
        )


class StoredWeights:
    """The `Weights` of a checkpoint's files; made by `open_weights`. Tensors are not to be written to."""

    def __init__(
        self,
        place: Located,
        files: Located,
        config: Any,
        adapter: Adapter | None,
        tokenizer: Tokenizer,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        self.facts = config_facts(config)
        self.tokenizer = tokenizer
        self.attrs = {
            "model": place.name if adapter is None else f"{place.name} + {adapter.name}",
            "revision": place_fingerprint(place, None if adapter is None else adapter.name),
            "backend": "files",
            "dtype": dtype_name(dtype),
            "architecture": self.facts["architecture"],
        }
        self._dtype, self._device = dtype, torch.device(device)
        self._map = NAME_MAPS[self.facts["architecture"]]
        self._files = TensorFiles(files)
        self._wide = torch.float32 if dtype in HALF and stored_precision(files) != dtype_name(dtype) else dtype
        self._adapter = AdapterLayers(adapter, config, place.name, self._wide) if adapter is not None else None
        self._keys = _named(self._files, self._map)
        self._embed, self._head = _ends(self._map, self._keys, config, place.name)
        _refuse_unfitting(self._files, self._keys, self._map, self.facts, self._head)
        if self._adapter is not None:
            self.facts["vocabulary"] = self._adapter.vocabulary
        self._whole: dict[str, Tensor] = {}  # embeddings that the adapter changes
        self._ahead = _NextLayer(self._read)

    def attention(self, layer: int) -> AttentionWeights:
        """Return the attention of one layer, norm included. Raises ModelError for a layer that is not there."""
        held = self._ahead.get("attention", layer, self.facts["layers"])
        gains = {name: self._gain(held.pop(name, None)) for name in ("gain", "out_gain")}
        return AttentionWeights(**held, **gains)

    def mlp(self, layer: int) -> MlpWeights:
        """Return the feed-forward half of one layer, norm included. Raises ModelError for a layer that is not there."""
        held = self._ahead.get("mlp", layer, self.facts["layers"])
        gains = {name: self._gain(held.pop(name, None)) for name in ("gain", "out_gain")}
        return MlpWeights(W_in=held["W_in"], W_gate=held.get("W_gate"), W_out=held["W_out"], **gains)

    def embed(self, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """Return the rows of W_E as they enter the residual stream."""
        rows = self._rows(self._embed, "embed", ids)
        if not self._map.scaled:
            return rows
        return rows * torch.tensor(self.facts["d_model"] ** 0.5, dtype=rows.dtype, device=rows.device)

    def unembed(self, ids: Int[Tensor, " token"]) -> Float[Tensor, "token d_model"]:
        """Return the columns of W_U, as rows."""
        return self._rows(self._head, "head", ids)

    def final_gain(self) -> Float[Tensor, " d_model"]:
        """Return the gain of the norm before the unembedding."""
        name = f"{self._map.base}.{self._map.final}.weight"
        return self._gain(self._tensor(name, self._keys[name]))

    def _read(self, half: Half, layer: int) -> dict[str, Tensor]:
        pieces, tensors = self._map.pieces(half, layer), dict[str, Tensor]()
        for piece in pieces.values():
            if piece.tensor not in tensors:
                tensors[piece.tensor] = self._tensor(piece.tensor, self._keys[piece.tensor])
        return {name: piece.cut(tensors[piece.tensor], self.facts) for name, piece in pieces.items()}

    def _tensor(self, name: str, key: str) -> Tensor:
        """Return a whole tensor in the requested precision, the adapter's update added. name: in the base model."""
        tensor = self._files.tensor(key)
        if self._adapter is not None and self._adapter.changes(name):
            tensor = self._adapter.merged(name, tensor.to(self._wide)).to(self._wide)
        return tensor.to(self._dtype).to(self._device)

    def _rows(self, key: str, end: str, ids: Tensor) -> Tensor:
        if self._adapter is not None:
            name = self._adapter.end(end)
            if self._adapter.changes(name):  # its update is of the whole matrix
                if end not in self._whole:
                    self._whole[end] = self._tensor(name, key)
                return self._whole[end][ids.to(self._device)]
        return self._files.rows(key, ids).to(self._dtype).to(self._device)

    def _gain(self, stored: Tensor | None) -> Tensor:
        if stored is None:
            return torch.ones(self.facts["d_model"], dtype=self._dtype, device=self._device)
        return stored + self._map.offset if self._map.offset else stored


class _NextLayer:
    """Reads a layer, and the one behind it meanwhile once two were asked for in a row."""

    def __init__(self, read: Any) -> None:
        self._read = read
        self._pool: ThreadPoolExecutor | None = None
        self._last: dict[Half, int] = {}
        self._coming: dict[Half, tuple[int, Future[dict[str, Tensor]]]] = {}

    def get(self, half: Half, layer: int, layers: int) -> dict[str, Tensor]:
        """Return the parameters of one half of a layer. Raises ModelError for a layer that is not there."""
        if not 0 <= layer < layers:
            raise ModelError(f"There is no layer {layer}; the model has {layers}, from 0.")
        number, coming = self._coming.pop(half, (-1, None))
        found = coming.result() if coming is not None and number == layer else self._read(half, layer)
        if self._last.get(half) == layer - 1 and layer + 1 < layers:
            self._pool = self._pool or ThreadPoolExecutor(1, "next layer")
            self._coming[half] = (layer + 1, self._pool.submit(self._read, half, layer + 1))
        self._last[half] = layer
        return dict(found)


def _named(files: TensorFiles, names: NameMap) -> dict[str, str]:
    """Return the key in the files of each tensor name: files saved from a model without its head lack the base."""
    front = f"{names.base}."
    if any(key.startswith(front) for key in files.tensors):
        return {key: key for key in files.tensors}
    return {key if key.rpartition(".")[0] in names.head else front + key: key for key in files.tensors}


def _ends(names: NameMap, keys: dict[str, str], config: Any, name: str) -> tuple[str, str]:
    """Return the keys of the embedding and of the unembedding, which may be one. Raises ModelError where one lacks."""
    embed = keys.get(f"{names.base}.{names.embed}.weight")
    head = next((keys[key] for key in (f"{head}.weight" for head in names.head) if key in keys), None)
    if config.get_text_config().tie_word_embeddings:
        embed, head = embed or head, head or embed
    missing = [word for word, key in (("embedding", embed), ("unembedding", head)) if key is None]
    if missing:
        raise ModelError(
            f"{name} holds no {' and no '.join(missing)} ({names.base}.{names.embed}.weight, {names.head[0]}.weight); "
            "the files are incomplete, or belong to another architecture than config.json says."
        )
    return str(embed), str(head)


def _refuse_unfitting(
    files: TensorFiles, keys: dict[str, str], names: NameMap, facts: dict[str, Any], head: str
) -> None:
    """Raise ModelError for tensors that are missing, left over, of another shape than the config says, or packed."""
    needed = names.ends()
    for layer in range(facts["layers"]):
        for half in HALVES:
            needed |= {piece.tensor: piece.shape for piece in names.pieces(half, layer).values()}
    known = {*names.known(facts["layers"])}
    packed = [key for key, stored in files.tensors.items() if not stored.plain and not unused_weights([key])]
    if packed:
        raise ModelError(
            f"{len(packed)} weights of {files.name} are stored as {files.tensors[packed[0]].kind} "
            f"({first_few(packed)}): they are quantised, and cannot be read as matrices; give the checkpoint that this "
            "one was made from, or save it dequantised."
        )
    missing = [name for name in needed if name not in keys and not name.endswith(f".{names.embed}.weight")]
    unknown = [key for name, key in keys.items() if name not in known and not unused_weights([name])]
    if missing or unknown:
        problems = [
            f"{len(some)} {words} ({first_few(some)})"
            for some, words in ((missing, "tensors are missing"), (unknown, "tensors have no place in such a model"))
            if some
        ]
        raise ModelError(
            f"The files of {files.name} do not hold the model that its config.json describes "
            f"({facts['architecture']}, {facts['layers']} layers): {', and '.join(problems)}; download the checkpoint "
            "again, or correct config.json."
        )
    shapes = {keys[name]: sizes(shape, facts) for name, shape in needed.items() if name in keys}
    for key, expected in (shapes | {head: sizes("v d", facts)}).items():
        if files.tensors[key].shape != expected:
            raise ModelError(
                f"The weight {key} of {files.name} has the shape {files.tensors[key].shape}; its config.json leads to "
                f"{expected}: the files and the config are of different models."
            )
