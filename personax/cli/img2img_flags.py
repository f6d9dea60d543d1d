"""The flags of sampling from a picture."""

from typing import Any

from absl import flags

from personax.sampling.img2img import PictureOptions


def define_flags() -> None:
    """Define the flags that `picture_options` reads."""
    text = flags.DEFINE_string
    text("image", None, "A picture to start from: it is noised and denoised again.")
    text("mask", None, "Where to repaint --image: white is repainted, black is kept.")
    flags.DEFINE_float(
        "strength",
        None,
        "The share of the steps taken from the noised --image. Default: 0.6, and 1 "
        "with --mask.",
        0.0,
        1.0,
    )


def picture_options(given: Any) -> PictureOptions | None:
    """The flags as options, None without --image. Raises ValueError."""
    if given.image is None:
        for name in ("mask", "strength"):
            if getattr(given, name) is not None:
                raise ValueError(f"--{name} needs an --image.")
        return None
    return PictureOptions(given.image, given.mask, given.strength)
