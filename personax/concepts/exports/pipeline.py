"""`--to diffusers`: a pipeline, or a ControlNet."""

from typing import Any

import numpy as np

from personax.concepts.bind import Model
from personax.concepts.exports.changes import Word, find_changes
from personax.concepts.exports.request import Exported, Request, all_params
from personax.core.tree import count, flat, nest
from personax.diffusion.denoiser import CONTROLNET
from personax.loading import Base
from personax.loading.write import VARIANTS, write_controlnet, write_pipeline
from personax.loading.write_tokenizer import vocabulary_size
from personax.methods.parts.tokens import TABLE


def export_pipeline(model: Model, base: Base, request: Request) -> Exported:
    """Write a pipeline whose tokenizer and embedding table have the words."""
    if CONTROLNET in model.denoiser.params:
        return _controlnet(model, request)
    changes = find_changes(model, base)
    params = all_params(changes, base)
    words = [token for word in changes.words for token in word.tokens]
    rows = [word.rows for word in changes.words]
    if rows:
        leaves, first = flat(params), vocabulary_size(base.tokenizer)
        table = np.asarray(leaves[TABLE], np.float32)
        # The table may have rows after the vocabulary's last token: those are replaced.
        leaves[TABLE] = np.concatenate(
            [table[:first], *rows, table[first + len(words) :]]
        )
        params = nest(leaves)
    variant = request.variant
    variant = variant if VARIANTS.get(variant or "") == request.dtype else None
    write_pipeline(
        request.out,
        base.configs,
        params,
        base.tokenizer,
        added=words,
        dtype=request.dtype,
        variant=variant,
        schedule=_marked(base),
    )
    more = f', variant="{variant}"' if variant else ""
    notes = [f'StableDiffusionPipeline.from_pretrained("{request.out}"{more}).']
    notes += [_in_pipeline(word) for word in changes.words]
    return Exported(f"A pipeline of {count(params):,} parameters", tuple(notes))


def _controlnet(model: Model, request: Request) -> Exported:
    added, config = model.denoiser.params[CONTROLNET], model.denoiser.spec.controlnet
    assert config is not None  # a denoiser with a ControlNet has its config
    write_controlnet(request.out, added, config, dtype=request.dtype)
    use = f'ControlNetModel.from_pretrained("{request.out}").'
    return Exported(f"A ControlNet of {count(added):,} parameters", (use,))


def _in_pipeline(word: Word) -> str:
    """How prompts of an exported pipeline write a word."""
    said = f"Its tokenizer knows {word.token}"
    if len(word.rows) > 1:
        bare = " ".join(word.tokens)
        said += f": pipelines expand it, the bare tokenizer has to read {bare!r}"
    return f"{said}."


def _marked(base: Base) -> dict[str, Any]:
    """What a single file's markers say that its published configs do not."""
    schedule, values = base.spec.schedule, {}
    if schedule.prediction_type == "v_prediction":
        values["prediction_type"] = "v_prediction"
    if schedule.rescale_betas_zero_snr:
        values["rescale_betas_zero_snr"] = True
    return values
