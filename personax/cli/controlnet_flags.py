"""The flags of ControlNets and of the pictures that they follow."""

from typing import Any

from absl import flags

from personax.cli.command import named_values
from personax.sampling.hints import HintOptions


def define_flags() -> None:
    """Define the flags that `hint_options` and `sampling_flags` read."""
    many = flags.DEFINE_multi_string
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


def hint_options(given: Any) -> HintOptions:
    """The flags as options. Raises ValueError."""
    return HintOptions(
        named_values("hint", given.hint),
        named_values("control_strength", given.control_strength),
        None if given.preprocess == "none" else given.preprocess,
    )
