"""The flags of Prompt-to-Prompt edits."""

import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

from absl import flags

from personax.cli import command
from personax.sampling.grammar import (
    parse_factor,
    parse_numbers,
    parse_window,
    parse_windows,
)
from personax.sampling.options import (
    COUNT,
    SEEDS,
    STEPS,
    EditOptions,
    ModelOptions,
)

Value = TypeVar("Value")


def define_flags() -> None:
    """Define the flags that `model_options` and `edit_options` read."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    number = flags.DEFINE_float
    command.define_base_flags(base=None)
    command.define_vae_flag()
    command.define_concept_flags()
    text("prompt", None, "The source's prompt; with --image, what the picture shows.")
    many("edit", [], "An edited prompt. Default: the prompt, for --reweight.")
    flags.DEFINE_enum(
        "kind",
        "auto",
        ["auto", "replace", "refine"],
        "replace: word k takes the attention of the source's word k; refine: words "
        "that both prompts have keep the source's. auto: replace if both prompts have "
        "as many words.",
    )
    many("reweight", [], "WORD=FACTOR: scale the attention of a word of the edit.")
    text(
        "cross_replace",
        "0.8",
        "Steps with the source's cross-attention: a share, FROM,TO, or by word "
        '"default=1.0,lion=0.4,hat=0.2:0.6".',
    )
    text("self_replace", "0.4", "Steps with its self-attention: a share, or FROM,TO.")
    number("self_limit", 0.5, "Self-attention up to this share of the latents' side.")
    text("blend", "", "Words, as in cat,dog: change the picture only near them.")
    text("subtract", "", "Words whose places are removed from the mask of --blend.")
    text("blend_threshold", "0.3", "Share of a map's maximum: one, or SOURCE,EDIT.")
    number("subtract_threshold", 0.3, "The same for --subtract.", 0.0, 1.0)
    number("blend_start", 0.2, "The share of the steps before blending.", 0.0, 1.0)
    flags.DEFINE_bool("compat", False, "Misalign words as the authors' release does.")
    command.define_path("image", None, "A real picture to edit.")
    flags.DEFINE_enum(
        "inversion", "null_text", ["null_text", "ddim"], "How to invert --image."
    )
    number("guidance", 3.0, "The weight of the prompts.")
    whole = flags.DEFINE_integer
    whole("steps", 50, "DDIM steps.", *STEPS)
    whole("num_images", 4, "Number of pictures; 1 with --image.", *COUNT)
    whole("batch", 4, "Pictures at a time, each with its edits.", *COUNT)
    whole("seed", 0, "Picture i depends on the seed and i alone.", *SEEDS)
    flags.DEFINE_enum(
        "dtype",
        None,
        ["float32", "bfloat16", "float16"],
        "Of weights and activations. Default: float32 on a CPU and with --image, else "
        "bfloat16.",
    )
    flags.mark_flag_as_required("prompt")


def inputs(given: Any) -> list[tuple[str, str | pathlib.Path]]:
    """(flag, path) of all that is read."""
    image = [("image", given.image)] if given.image else []
    return [*command.base_inputs(given), *image]


def model_options(given: Any) -> ModelOptions:
    """The base and its concepts."""
    return ModelOptions(
        given.base,
        tuple(given.concept),
        dtype=given.dtype,
        reading={**command.base_options(given), "vae": given.vae},
        any_base=given.any_base,
    )


def edit_options(given: Any) -> EditOptions:
    """The flags as options. Raises ValueError."""
    if not given.edit and not given.reweight:
        raise ValueError("Nothing to edit; add --edit or --reweight.")
    threshold = _parse("blend_threshold", parse_numbers, given.blend_threshold)
    return command.options_from(
        EditOptions,
        given,
        edits=tuple(given.edit) or (given.prompt,),
        factors=dict(_parse("reweight", parse_factor, x) for x in given.reweight),
        cross=_parse("cross_replace", parse_windows, given.cross_replace),
        within=_parse("self_replace", parse_window, given.self_replace),
        blend=command.listed(given.blend),
        subtract=command.listed(given.subtract),
        threshold=(threshold[0], threshold[-1]),
    )


def _parse(flag: str, parse: Callable[[str], Value], text: str) -> Value:
    """The parsed text; ValueError with the flag's name."""
    try:
        return parse(text)
    except ValueError as error:
        raise ValueError(f"--{flag}: {error}")
