"""The flags of the commands that sample from guidance terms."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

from absl import flags

from personax.cli import command
from personax.concepts.source import parse_source
from personax.diffusion.solvers import SOLVERS
from personax.sampling.hints import HintOptions
from personax.sampling.options import (
    COUNT,
    SEEDS,
    SIDES,
    SPACINGS,
    STEPS,
    ModelOptions,
    SamplingOptions,
    check_range,
)


def define_flags() -> None:
    """Define the flags that the functions below read."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    command.define_base_flags(base=None)
    command.define_vae_flag()
    command.define_concept_flags()
    many(
        "model",
        [],
        "NAME=SOURCE: a model for terms NAME@WEIGHT:PROMPT. SOURCE is a base, or the "
        "folder of a concept, which is loaded with the base that it names, or an "
        "adapter's file for --base.",
    )
    many(
        "term",
        [],
        "[MODEL@]WEIGHT:PROMPT. Terms are summed; the remaining weight, 1 - sum(w), "
        "goes to the unconditional term. WEIGHT may be negative and may change over "
        "the steps: A>B is linear from A to B, A[LOW,HIGH] applies in that share of "
        "the steps and is 0 elsewhere, and sums such as 1+2>0[0.2,0.8] are allowed. To "
        "rectify a customised checkpoint: --model mine=DIR --term 'mine@3:a dog'. For "
        "the style of a third model: --model face=DIR --model art=DIR --term "
        "'face@1.5:' --term 'art@2:'.",
    )
    many(
        "control",
        [],
        "NAME=DIR: add the ControlNet in DIR, in diffusers' layout or trained by "
        "personax, to the model NAME. It applies to all terms of NAME, including the "
        "unconditional one: --model edges=emoji --control edges=DIR leaves the base "
        "without.",
    )
    many("hint", [], "NAME=FILE: the picture that model NAME's ControlNet follows.")
    flags.DEFINE_enum(
        "preprocess", "none", ["none", "canny"], "Preprocessing of every --hint."
    )
    many(
        "control_strength",
        [],
        "NAME=STRENGTH of a ControlNet, 1 by default; may change over the steps as a "
        "--term's WEIGHT does.",
    )
    text("negative", "", "Replaces the unconditional term's empty prompt.")
    text("unconditional", "base", "The model of the unconditional term.")
    flags.DEFINE_enum("solver", None, list(SOLVERS), "Default: the base's own.")
    flags.DEFINE_float("eta", 0.0, "Share of DDPM's noise in DDIM.", 0.0, 1.0)
    flags.DEFINE_enum(
        "spacing", None, SPACINGS, "Spacing of the steps. Default: the base's own."
    )
    number = flags.DEFINE_integer
    number("steps", 25, "Solver steps.", *STEPS)
    number("num_images", 4, "Number of pictures of each prompt.", *COUNT)
    number("batch", 8, "Pictures at a time, over all local devices.", *COUNT)
    number("seed", 0, "Picture i depends on the seed and i alone.", *SEEDS)
    text("size", None, "Side, or WIDTHxHEIGHT, in pixels. Default: the base's own.")
    flags.DEFINE_enum(
        "dtype",
        None,
        ["float32", "bfloat16", "float16"],
        "Of weights and activations. Default: float32 on a CPU, else bfloat16.",
    )


def model_options(given: Any) -> ModelOptions:
    """The models to load. Raises ValueError."""
    return ModelOptions(
        given.base,
        tuple(given.concept),
        named_paths("model", given.model),
        named_paths("control", given.control),
        given.dtype,
        {**command.base_options(given), "vae": given.vae},
        given.any_base,
    )


def hint_options(given: Any) -> HintOptions:
    """The pictures that ControlNets follow. Raises ValueError."""
    return HintOptions(
        named_paths("hint", given.hint),
        _named_values("control_strength", given.control_strength),
        None if given.preprocess == "none" else given.preprocess,
    )


def sampling_options(given: Any) -> SamplingOptions:
    """How to sample. Raises ValueError."""
    size = _parse_size(given.size)
    return command.options_from(SamplingOptions, given, size=size)


def inputs(given: Any) -> list[tuple[str, str | pathlib.Path]]:
    """(flag, path) of all that the models and hints are read from."""
    named = ("model", "control", "hint")
    return [
        *command.base_inputs(given),
        *(
            (flag, parse_source(path).path if flag == "model" else path)
            for flag in named
            for path in named_paths(flag, getattr(given, flag)).values()
        ),
    ]


def named_paths(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """{NAME: PATH} of "NAME=PATH" texts, "~" expanded. Raises ValueError."""
    values = _named_values(flag, texts)
    for name in values:
        if "/" in name:  # names are parts of the names of files
            raise ValueError(f"--{flag} {name}=…: a NAME must not contain a slash.")
    return {name: command.expanded(path) for name, path in values.items()}


def _parse_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) in pixels."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match:
        raise ValueError(f"--size {text!r} is not a side or WIDTHxHEIGHT.")
    height, width = int(match[2] or match[1]), int(match[1])
    for side in (height, width):
        check_range("--size", side, *SIDES)
    return height, width


def _named_values(flag: str, texts: Sequence[str]) -> dict[str, str]:
    """{NAME: VALUE} of a flag's "NAME=VALUE" texts. Raises ValueError."""
    values: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not (name and value) or name in values:
            raise ValueError(f"--{flag} {text!r} is not NAME=VALUE with a unique NAME.")
        values[name] = value
    return values
