"""Edge agreement of two edge maps."""

import numpy as np
from jaxtyping import UInt8

Edges = UInt8[np.ndarray, "_ _"]  # height, width; nonzero pixels are edges


def edge_iou(edges: Edges, target: Edges) -> float:
    """Intersection over union of the edge pixels, 0 to 1; 1 for two maps without edges.

    The edge agreement of OFT's evaluation (Qiu et al. 2023). Raises ValueError for maps
    of two sizes and for empty maps.
    """
    if edges.shape != target.shape:
        raise ValueError(
            f"Edge maps have two sizes: {edges.shape[1]}x{edges.shape[0]} and "
            f"{target.shape[1]}x{target.shape[0]} pixels."
        )
    if not edges.size:
        raise ValueError("Edge maps are empty.")
    union = ((edges > 0) | (target > 0)).sum()
    return float(((edges > 0) & (target > 0)).sum() / union) if union else 1.0
