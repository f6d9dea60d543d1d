"""Inception as FID uses it: TensorFlow's graph of 2015-12-05, not torchvision's.

Szegedy et al. 2015, "Rethinking the Inception Architecture", as Heusel et al. 2017 took
it for FID. torchvision's InceptionV3 has the same layers, and differs in what the graph
has here: averages that leave the padding out (Mixed_5b to 7b), the maximum in place of
the average in Mixed_7c, 1008 classes, no second classifier, and other weights.

Paths are the names in pt_inception-2015-12-05-6726825d.pth, the graph's weights as
pytorch-fid and torch-fidelity publish them, with "/" for "." and `kernel` (HWIO) and
`scale` for a convolution's and a norm's `weight`: "Mixed_5b/branch1x1/conv/kernel" and
"…/bn/scale", "bias", "running_mean", "running_var".
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from personax.core.tree import nest
from personax.core.typing import Key, Params
from personax.networks.layers import conv, dense, init_dense, init_norm

WIDTH = 2048  # of the features
CLASSES = 1008  # ImageNet's 1000 among them
SMALLEST = 75  # pixels; the last layers' inputs would be empty below it
_EPS = 1e-3

# A block's branches, each {layer: (rows, columns, width)}, one layer after another.
_Branches = tuple[dict[str, tuple[int, int, int]], ...]


def inception(
    params: Params, images: Float[Array, "b y x 3"]
) -> Float[Array, "b 2048"]:
    """The output of the last pooling, float32: FID's and KID's features.

    `images` hold (v - 128) / 128 of values v in [0, 255], RGB. FID's are 299 x 299; the
    layers take any size from 75 x 75. Raises ValueError for less.
    """
    if min(images.shape[1:3]) < SMALLEST:
        raise ValueError(
            f"The images are {images.shape[1]} x {images.shape[2]}, Inception takes "
            f"{SMALLEST} x {SMALLEST} or more."
        )
    x = _layer(params["Conv2d_1a_3x3"], images, stride=2, pad=False)
    x = _layer(params["Conv2d_2a_3x3"], x, pad=False)
    x = _layer(params["Conv2d_2b_3x3"], x)
    x = _maximum(x, stride=2)
    x = _layer(params["Conv2d_3b_1x1"], x)
    x = _layer(params["Conv2d_4a_3x3"], x, pad=False)
    x = _maximum(x, stride=2)
    for name in _BLOCKS:
        x = _halve(params, name, x) if name in _HALVING else _mix(params, name, x)
    return x.astype(jnp.float32).mean((1, 2))


def logits(params: Params, features: Float[Array, "b 2048"]) -> Float[Array, "b 1008"]:
    """The classes' logits, which FID and KID do not use."""
    return dense(params["fc"], features)


def init_inception(key: Key) -> Params:
    """Kernels as He et al. 2015 have them, norms that change nothing."""
    shapes = _kernel_shapes()
    keys = jax.random.split(key, len(shapes) + 1)
    draw = jax.nn.initializers.he_normal()
    leaves: Params = {"fc": init_dense(keys[-1], WIDTH, CLASSES)}
    for own, (path, shape) in zip(keys[:-1], shapes.items(), strict=True):
        width = shape[-1]
        leaves[f"{path}/conv/kernel"] = draw(own, shape)
        leaves[f"{path}/bn"] = {
            **init_norm(width),
            "running_mean": jnp.zeros(width),
            "running_var": jnp.ones(width),
        }
    return nest(leaves)


def _mix(params: Params, name: str, x: Float[Array, "b h w i"]) -> Array:
    """A block that keeps the size; its last branch sees each pixel's neighbourhood."""
    pool = _maximum if name == "Mixed_7c" else _average
    *branches, pooled = _BLOCKS[name]
    # Branches that begin with the same layers share them.
    after: dict[str, Array] = {}
    for branch in branches:
        y = x
        for layer in branch:
            if layer not in after:
                after[layer] = _layer(params[name][layer], y)
            y = after[layer]
    ends = [after[[*branch][-1]] for branch in branches]
    (layer,) = pooled
    return jnp.concatenate([*ends, _layer(params[name][layer], pool(x))], axis=-1)


def _halve(params: Params, name: str, x: Float[Array, "b h w i"]) -> Array:
    """A block that halves the size, each branch in its last layer."""
    ends = []
    for branch in _BLOCKS[name]:
        *layers, last = branch
        y = x
        for layer in layers:
            y = _layer(params[name][layer], y)
        ends.append(_layer(params[name][last], y, stride=2, pad=False))
    return jnp.concatenate([*ends, _maximum(x, stride=2)], axis=-1)


def _layer(
    params: Params, x: Float[Array, "b h w i"], *, stride: int = 1, pad: bool = True
) -> Float[Array, "b h2 w2 o"]:
    """Convolution, normalisation by the running statistics, ReLU."""
    rows, columns = (side // 2 * pad for side in params["conv"]["kernel"].shape[:2])
    padding = ((rows, rows), (columns, columns))
    y = conv(params["conv"], x, stride=stride, padding=padding).astype(jnp.float32)
    bn = params["bn"]
    factor = bn["scale"] * jax.lax.rsqrt(bn["running_var"] + _EPS)
    shift = bn["bias"] - bn["running_mean"] * factor
    y = y * factor[None, None, None] + shift[None, None, None]
    return jax.nn.relu(y).astype(x.dtype)


def _maximum(
    x: Float[Array, "b h w c"], *, stride: int = 1
) -> Float[Array, "b h2 w2 c"]:
    """Of 3 x 3 neighbours; at stride 2 of those that lie inside whole."""
    return jax.lax.reduce_window(
        x,
        np.asarray(-np.inf, x.dtype),
        jax.lax.max,
        (1, 3, 3, 1),
        (1, stride, stride, 1),
        "SAME" if stride == 1 else "VALID",
    )


def _average(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """The mean of 3 x 3 neighbours; as in TensorFlow, padding is not counted."""

    def add_up(x: Array) -> Array:
        zero = np.asarray(0, x.dtype)
        window, strides = (1, 3, 3, 1), (1, 1, 1, 1)
        return jax.lax.reduce_window(x, zero, jax.lax.add, window, strides, "SAME")

    return add_up(x) / add_up(jnp.ones((1, *x.shape[1:3], 1), x.dtype))


def _kernel_shapes() -> dict[str, tuple[int, int, int, int]]:
    """{path of a layer: rows, columns, inputs, outputs} of the network."""
    shapes = _chain(3, _STEM)
    inputs = shapes["Conv2d_4a_3x3"][-1]
    for name, branches in _BLOCKS.items():
        outputs = inputs if name in _HALVING else 0  # the maximum joins the branches
        for branch in branches:
            own = _chain(inputs, branch)
            shapes.update({f"{name}/{layer}": shape for layer, shape in own.items()})
            outputs += own[[*branch][-1]][-1]
        inputs = outputs
    return shapes


def _chain(
    inputs: int, layers: dict[str, tuple[int, int, int]]
) -> dict[str, tuple[int, int, int, int]]:
    shapes = {}
    for layer, (rows, columns, width) in layers.items():
        shapes[layer] = (rows, columns, inputs, width)
        inputs = width
    return shapes


def _fine(pooled: int) -> _Branches:
    """35 x 35: block A of torchvision."""
    return (
        {"branch1x1": (1, 1, 64)},
        {"branch5x5_1": (1, 1, 48), "branch5x5_2": (5, 5, 64)},
        {
            "branch3x3dbl_1": (1, 1, 64),
            "branch3x3dbl_2": (3, 3, 96),
            "branch3x3dbl_3": (3, 3, 96),
        },
        {"branch_pool": (1, 1, pooled)},
    )


def _middle(width: int) -> _Branches:
    """17 x 17: block C, whose 7 x 7 kernels are taken apart into 1 x 7 and 7 x 1."""
    return (
        {"branch1x1": (1, 1, 192)},
        {
            "branch7x7_1": (1, 1, width),
            "branch7x7_2": (1, 7, width),
            "branch7x7_3": (7, 1, 192),
        },
        {
            "branch7x7dbl_1": (1, 1, width),
            "branch7x7dbl_2": (7, 1, width),
            "branch7x7dbl_3": (1, 7, width),
            "branch7x7dbl_4": (7, 1, width),
            "branch7x7dbl_5": (1, 7, 192),
        },
        {"branch_pool": (1, 1, 192)},
    )


def _coarse() -> _Branches:
    """8 x 8: block E, where two branches fork at their end into 1 x 3 and 3 x 1."""
    wide = {"branch3x3_1": (1, 1, 384)}
    double = {"branch3x3dbl_1": (1, 1, 448), "branch3x3dbl_2": (3, 3, 384)}
    return (
        {"branch1x1": (1, 1, 320)},
        {**wide, "branch3x3_2a": (1, 3, 384)},
        {**wide, "branch3x3_2b": (3, 1, 384)},
        {**double, "branch3x3dbl_3a": (1, 3, 384)},
        {**double, "branch3x3dbl_3b": (3, 1, 384)},
        {"branch_pool": (1, 1, 192)},
    )


_STEM = {
    "Conv2d_1a_3x3": (3, 3, 32),
    "Conv2d_2a_3x3": (3, 3, 32),
    "Conv2d_2b_3x3": (3, 3, 64),
    "Conv2d_3b_1x1": (1, 1, 80),
    "Conv2d_4a_3x3": (3, 3, 192),
}
_BLOCKS = {
    "Mixed_5b": _fine(32),
    "Mixed_5c": _fine(64),
    "Mixed_5d": _fine(64),
    "Mixed_6a": (
        {"branch3x3": (3, 3, 384)},
        {
            "branch3x3dbl_1": (1, 1, 64),
            "branch3x3dbl_2": (3, 3, 96),
            "branch3x3dbl_3": (3, 3, 96),
        },
    ),
    "Mixed_6b": _middle(128),
    "Mixed_6c": _middle(160),
    "Mixed_6d": _middle(160),
    "Mixed_6e": _middle(192),
    "Mixed_7a": (
        {"branch3x3_1": (1, 1, 192), "branch3x3_2": (3, 3, 320)},
        {
            "branch7x7x3_1": (1, 1, 192),
            "branch7x7x3_2": (1, 7, 192),
            "branch7x7x3_3": (7, 1, 192),
            "branch7x7x3_4": (3, 3, 192),
        },
    ),
    "Mixed_7b": _coarse(),
    "Mixed_7c": _coarse(),
}
_HALVING = ("Mixed_6a", "Mixed_7a")
