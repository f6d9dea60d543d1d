"""Canny edges, as the conditioning image of a ControlNet."""

from jaxtyping import UInt8
from numpy import ndarray

from personax.core.images import Pixels


def canny(
    pixels: Pixels, low: int | float = 100, high: int | float = 200
) -> UInt8[ndarray, "h w"]:
    """White edges on black, 255 and 0, by OpenCV (Canny 1986).

    A pixel is an edge where the gradient is above `high`, or above `low` and connected
    to one that is; the defaults are those of the published canny ControlNets. In colour
    pictures the channel with the largest gradient counts. Raises ValueError where
    OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise ValueError(
            "Canny edges need OpenCV: pip install opencv-python-headless, or "
            "personax[control]."
        )
    return cv2.Canny(pixels, low, high)
