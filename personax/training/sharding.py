"""The ("data", "fsdp") mesh, and shardings of parameters by rules on their paths."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from personax.core.tree import nearest
from personax.training.state import TrainState

Rules = Sequence[tuple[str, str]]  # (regex over whole paths, "replicate" or "shard")

REPLICATE: Rules = ((".*", "replicate"),)


def make_mesh(
    data: int = -1, fsdp: int = 1, devices: Sequence[Any] | None = None
) -> Mesh:
    """A mesh of all devices as `data` times `fsdp`; -1 takes what the other leaves.

    With two -1, "fsdp" takes the devices of a TPU slice and "data" the slices. Batches
    are split over both axes, sharded parameters over "fsdp" alone. A row of "data" does
    not cross slices. Raises ValueError for a shape that does not fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    slices = 1
    # On GPUs the index is that of the host, which parameters may cross.
    if devices[0].platform != "gpu":
        slices = len({getattr(device, "slice_index", 0) for device in devices})
    shape = [slices if data == fsdp == -1 else data, fsdp]
    if -1 in shape:
        known = -shape[0] * shape[1]
        shape[shape.index(-1)] = count // known if known else 0
    if shape[0] * shape[1] != count or min(shape) < 1:
        raise ValueError(
            f"A mesh of data={data}, fsdp={fsdp} does not fit {count} devices."
        )
    names, types = ("data", "fsdp"), (AxisType.Auto,) * 2
    if slices == 1:
        return jax.make_mesh(shape, names, axis_types=types, devices=devices)
    # The network between TPU slices is slow: only batches are split over them.
    if shape[0] % slices:
        raise ValueError(
            f"A mesh of data={shape[0]}, fsdp={fsdp} does not fit {slices} slices: "
            "data must be a multiple of them."
        )
    inside = (shape[0] // slices, shape[1])
    return Mesh(
        mesh_utils.create_hybrid_device_mesh(inside, (slices, 1), devices),
        names,
        axis_types=types,
    )


def over_batch(mesh: Mesh) -> NamedSharding:
    """The sharding of batches: the first axis over all devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def everywhere(mesh: Mesh) -> NamedSharding:
    """The replicated sharding: a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def put(tree: Any, shardings: Any) -> Any:
    """The tree with one sharding, or with a tree of them.

    Each process must hold the whole tree, of which its devices get their part; arrays
    that are already distributed are resharded.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    if isinstance(shardings, Sharding):
        shardings = jax.tree.map(lambda _: shardings, tree)
    return jax.tree.map(_put, tree, shardings)


def fetch(tree: Any) -> Any:
    """The tree as whole numpy arrays on every process; all processes must call it."""
    return jax.tree.map(_fetch, tree)


def by_rules(
    mesh: Mesh, rules: Rules
) -> Callable[[str, tuple[int, ...]], NamedSharding]:
    """`(path, shape) -> sharding` by the first rule that matches the whole path.

    "shard" splits the largest axis that is divisible by the mesh's "fsdp"; a leaf
    without one is replicated. Raises ValueError for an unknown rule, and for a path
    that no rule matches.
    """
    for _, rule in rules:
        if rule not in ("replicate", "shard"):
            raise ValueError(
                f"Unknown sharding rule {rule!r}; expected replicate or shard."
            )
    size = mesh.shape["fsdp"]

    def sharding(path: str, shape: tuple[int, ...]) -> NamedSharding:
        rule = next((r for regex, r in rules if re.fullmatch(regex, path)), None)
        if rule is None:
            raise ValueError(f"No sharding rule matches {path}; end them with '.*'.")
        axes = [axis for axis, n in enumerate(shape) if n % size == 0 and n >= size]
        if rule == "replicate" or not axes:
            return everywhere(mesh)
        largest = max(axes, key=lambda axis: shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return sharding


def check_rules(rules: Rules, tree: Any) -> None:
    """Raise ValueError for a rule that matches no path of the tree, as a typo does."""
    paths = [_path(path) for path, _ in jax.tree.leaves_with_path(tree)]
    for regex, _ in rules:
        if not any(re.fullmatch(regex, path) for path in paths):
            raise ValueError(
                f"The sharding rule {regex!r} matches no path; nearest: "
                f"{nearest(regex, paths)}."
            )


def of_tree(tree: Any, mesh: Mesh, rules: Rules) -> Any:
    """The sharding of every leaf; the paths of theta are "weights/unet/…"."""
    sharding = by_rules(mesh, rules)
    return jax.tree.map_with_path(
        lambda path, leaf: sharding(_path(path), leaf.shape), tree
    )


def of_state(
    state: TrainState, tx: optax.GradientTransformation, mesh: Mesh, rules: Rules
) -> TrainState:
    """The shardings of a state: moments and averages have those of their parameters.

    A moment of another shape, such as a row's scale or a factor, is small, and
    replicated.
    """
    theta, whole = of_tree(state.theta, mesh, rules), everywhere(mesh)
    opt = optax.tree_map_params(
        tx,
        lambda moment, own, leaf: own if moment.shape == leaf.shape else whole,
        state.opt,
        theta,
        state.theta,
        transform_non_params=lambda _: whole,
    )
    ema = None if state.ema is None else theta
    return TrainState(step=whole, theta=theta, opt=opt, key=whole, ema=ema)


def _path(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _put(leaf: Any, sharding: Sharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _put(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda at: whole[at])


def _fetch(leaf: jax.Array) -> np.ndarray:
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
