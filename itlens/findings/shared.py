"""What several findings share: options, each one field object (one keyword, one flag, one meaning), an attribution, and
what results say of their models.

`attributed` is that of one prompt of a study: faithfulness computes it where the attributions themselves are not there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from itlens.findings.base import Plan
from itlens.findings.options import option
from itlens.vocabulary.word_vectors import loaded_vectors, loaded_vocabulary

if TYPE_CHECKING:
    import xarray as xr

    from itlens.models.hooked_model import HookedModel

METHODS = ("input_x_gradient", "saliency", "integrated_gradients")
OBJECTIVES = ("prob", "logprob", "logit", "contrastive")


VOCABULARY = option(
    "builtin",
    help="Words: builtin, or a text or TSV file from frequent to rare.",
    load=lambda given, options: loaded_vocabulary(given, "vocabulary"),
    describe=lambda words: f"{words.name or 'given'}, {len(words):,} words",
)
VECTORS = option(
    "builtin",
    help="Word vectors that say which words are related: builtin, or a file.",
    load=lambda given, options: loaded_vectors(given, options["vocabulary"]),
    describe=lambda vectors: f"{vectors.name or 'given'}, {vectors.vectors.shape[1]} dimensions",
)
METHOD = option(
    "input_x_gradient", help="Attribution: input_x_gradient, saliency or integrated_gradients.", one_of=METHODS
)
OBJECTIVE = option("prob", help="What is attributed: prob, logprob, logit or contrastive.", one_of=OBJECTIVES)
BATCH_SIZE = option(None, help="Derivatives computed at a time; default: by memory.", at_least=1, identity=False)
SAMPLE = option(16, help="Prompts, drawn at random, for what takes many passes (patching, faithfulness).", at_least=1)


def attributed(
    model: HookedModel, unit: str, plan: Plan, progress: Callable[[int, int], None] | bool = False
) -> xr.Dataset:
    """Return `itlens.attribute` of a unit's prompt and the response that the study reads, by the plan's options."""
    from itlens.hooked.attribution import attribute

    assert plan.reading is not None  # every study with prompts has one
    number = plan.number_of(unit)
    return attribute(
        model,
        plan.prompts[number],
        plan.reading.response(model, plan.side, number),
        method=plan.options.method,
        objective=plan.options.objective,
        batch_size=plan.options.batch_size,
        max_new_tokens=plan.reading.max_new_tokens,
        prepend_bos=plan.reading.prepend_bos,
        progress=progress,
    )


def attrs_of_sides(
    base: Mapping[Hashable, object],
    tuned: Mapping[Hashable, object],
    names: Sequence[str] = ("model", "revision", "dtype"),
) -> dict[str, object]:
    """Return base_model, tuned_model, base_revision ..., of the attributes of both models' results; "" for none."""
    sides = {"base": base, "tuned": tuned}
    return {f"{side}_{name}": attrs.get(name, "") for name in names for side, attrs in sides.items()}


def model_names(results: Iterable[xr.Dataset]) -> str:
    """Return the models that results are of, each once."""
    return ", ".join(dict.fromkeys(str(result.attrs.get("model", "")) for result in results))
