"""How well the edges of a picture agree with those that were asked for."""

import numpy as np
from jaxtyping import UInt8

Edges = UInt8[np.ndarray, "_ _"]  # height, width; what is not 0 is an edge


def edge_iou(found: Edges, wanted: Edges) -> float:
    """Pixels that are edges in both maps over those that are in either, 0 to 1.

    The edge agreement of OFT's evaluator (Qiu et al. 2023); two maps without edges
    agree. Raises ValueError for maps of two sizes.
    """
    if found.shape != wanted.shape:
        raise ValueError(
            f"The edges found are {found.shape[1]}x{found.shape[0]} pixels, those "
            f"wanted {wanted.shape[1]}x{wanted.shape[0]}."
        )
    one, other = found > 0, wanted > 0
    either = (one | other).sum()
    return float((one & other).sum() / either) if either else 1.0


def edge_f1(found: Edges, wanted: Edges) -> float:
    """The harmonic mean of precision and recall of the edge pixels, 0 to 1."""
    iou = edge_iou(found, wanted)
    return 2 * iou / (1 + iou)
