"""The flags of attention maps."""

from typing import Any

from absl import flags

from personax.cli import command
from personax.sampling.attention import AttentionOptions


def define_flags() -> None:
    """Define the flags that `attention_options` reads."""
    text = flags.DEFINE_string
    text("attention", "", "Words, as in dog,hat: write their maps to attention.png.")
    flags.DEFINE_integer(
        "attention_side",
        0,
        "Rows of the maps. Default: a quarter of the latents' side, at least 8.",
        0,
    )
    flags.DEFINE_list("attention_places", "down,up", "Some of down, mid and up.")
    flags.DEFINE_list("attention_steps", "0,1", "First and last share of the steps.")


def attention_options(given: Any) -> AttentionOptions | None:
    """The flags as options, None without --attention. Raises ValueError."""
    words = command.listed(given.attention)
    if not words:
        return None
    try:
        first, last = (float(share) for share in given.attention_steps)
    except ValueError:
        steps = ",".join(given.attention_steps)
        raise ValueError(f"--attention_steps {steps!r} is not FIRST,LAST, such as 0,1.")
    places = tuple(given.attention_places)
    return AttentionOptions(words, given.attention_side or None, places, (first, last))
