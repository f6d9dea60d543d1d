"""How well the edges of a picture agree with those that were asked for."""

import numpy as np
from jaxtyping import Bool, UInt8

Edges = UInt8[np.ndarray, "_ _"]  # height, width; what is not 0 is an edge

_WINDOW = 11  # pixels; what a Gaussian of 1.5 pixels is cut at


def edge_iou(found: Edges, wanted: Edges) -> float:
    """Pixels that are edges in both maps over those that are in either, 0 to 1.

    The edge agreement of OFT's evaluator (Qiu et al. 2023); two maps without edges
    agree. Raises ValueError for maps of two sizes and for maps of no pixel.
    """
    one, other = _both(found, wanted)
    either = (one | other).sum()
    return float((one & other).sum() / either) if either else 1.0


def edge_f1(found: Edges, wanted: Edges) -> float:
    """The harmonic mean of precision and recall of the edge pixels, 0 to 1."""
    iou = edge_iou(found, wanted)
    return 2 * iou / (1 + iou)


def edge_l1(found: Edges, wanted: Edges) -> float:
    """The share of pixels that are an edge in one map alone, 0 to 1; 0 is agreement.

    That is the mean absolute difference of maps of 0 and 1. Most pixels are no edges:
    no edges at all are near every map. Raises what `edge_iou` raises.
    """
    one, other = _both(found, wanted)
    return float((one != other).mean())


def edge_ssim(found: Edges, wanted: Edges) -> float:
    """The structural similarity of maps of 0 and 1, at most 1; 1 is agreement.

    Wang et al. 2004: windows of 11 pixels, weighted by a Gaussian of 1.5, computed by
    scikit-image. Raises ValueError without it, for maps smaller than a window, and what
    `edge_iou` raises.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        raise ValueError(
            "Edge SSIM needs scikit-image, which is not installed: "
            "pip install 'personax[evaluate]'."
        )
    one, other = _both(found, wanted)
    if min(one.shape) < _WINDOW:
        raise ValueError(
            f"Edge SSIM needs at least {_WINDOW}x{_WINDOW} pixels, not "
            f"{one.shape[1]}x{one.shape[0]}."
        )
    return float(
        structural_similarity(
            one.astype(np.float64),
            other.astype(np.float64),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def _both(
    found: Edges, wanted: Edges
) -> tuple[Bool[np.ndarray, "_ _"], Bool[np.ndarray, "_ _"]]:
    if found.shape != wanted.shape:
        raise ValueError(
            f"The edges found are {found.shape[1]}x{found.shape[0]} pixels, those "
            f"wanted {wanted.shape[1]}x{wanted.shape[0]}."
        )
    if not found.size:
        raise ValueError("The maps of edges have no pixel.")
    return found > 0, wanted > 0
