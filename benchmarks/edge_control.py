"""Pictures generated along the edges of portraits, and their agreement."""

import importlib
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from benchmarks.attributes import Pictures
from benchmarks.batch_sampling import BatchTerm
from benchmarks.portrait_runs import shortened, train_to_end
from personax.concepts.bind import Model, from_base, with_concepts
from personax.data.edges import canny
from personax.diffusion.denoiser import CONTROLNET, with_controlnet
from personax.loading import Base

_CONFIG = "configs.emoji_controlnet"
Edges = UInt8[np.ndarray, "_ _"]  # height, width; nonzero pixels are edges


def control(base: Base, out: pathlib.Path, steps: int) -> Model:
    """The base with the ControlNet of OUT/controlnet, trained if missing."""
    folder = out / "controlnet"
    if not (folder / "concept").is_dir():
        config = importlib.import_module(_CONFIG).get_config()
        train_to_end(shortened(config, steps), folder)
    return with_concepts(from_base(base), base, [str(folder / "concept")])


def with_control(model: Model, control: Model) -> Model:
    """The model with another model's ControlNet, trained on the same base."""
    own = control.denoiser
    with_it = with_controlnet(
        model.denoiser, own.params[CONTROLNET], own.spec.controlnet
    )
    return model._replace(denoiser=with_it)


def hints(pixels: Pictures, control: Model) -> np.ndarray:
    """The Canny maps of pictures as hints in [0, 1]."""
    maps = np.stack([canny(np.ascontiguousarray(each)) for each in pixels])
    channels = control.denoiser.spec.controlnet.conditioning_channels
    return np.repeat(maps[..., None] / np.float32(255), channels, axis=-1)


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


def edge_agreement(drawn: Pictures, target: Pictures) -> float:
    """The mean IoU of the Canny maps of pictures and their targets."""
    pairs = zip(drawn, target, strict=True)
    ious = [
        edge_iou(*(canny(np.ascontiguousarray(each)) for each in pair))
        for pair in pairs
    ]
    return round(float(np.mean(ious)), 4)


def best(
    weights: Sequence[Sequence[float]],
    draw: Callable[[Sequence[float]], Pictures],
    score: Callable[[Pictures], float],
) -> tuple[Sequence[float], list[list]]:
    """(the weights with the largest score, [weights, score] for all)."""
    scores = [[each, round(score(draw(each)), 4)] for each in weights]
    return max(scores, key=lambda pair: pair[1])[0], scores


def joint_terms(
    phrase: str, weights: Sequence[float], hint: np.ndarray
) -> list[BatchTerm]:
    """One term with a text and edges."""
    return [BatchTerm(f"a photo of a {phrase}", weights[0], "control", hint)]


def decoupled_terms(
    phrase: str, weights: Sequence[float], hint: np.ndarray
) -> list[BatchTerm]:
    """A term of the concept without text, and one of the base with edges alone."""
    return [
        BatchTerm("", weights[0], "concept"),
        BatchTerm("", weights[1], "control", hint),
    ]
