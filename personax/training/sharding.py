"""Where arrays lie: a ("data", "fsdp") mesh, and rules from paths to shardings."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from personax.training.state import TrainState

Rules = Sequence[tuple[str, str]]  # (regex over whole paths, "replicate" or "shard")

REPLICATE: Rules = ((".*", "replicate"),)


def make_mesh(
    data: int = -1, fsdp: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """All devices as `data` times `fsdp`; -1 takes what the other axis leaves.

    The batch is split over both axes, parameters that a rule shards over "fsdp" alone.
    Slices of TPUs, between which the network is slow, lie along "data". Raises
    ValueError where the devices do not come out even.
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    shape = [data, fsdp]
    if -1 in shape:
        known = -data * fsdp if shape != [-1, -1] else 1
        shape[shape.index(-1)] = count // known if known else 0
    if shape[0] * shape[1] != count or min(shape) < 1:
        raise ValueError(
            f"A mesh of data={data}, fsdp={fsdp} does not fit {count} devices."
        )
    names, types = ("data", "fsdp"), (AxisType.Auto,) * 2
    slices = {device.slice_index for device in devices if _in_slices(device)}
    if len(slices) < 2:
        return jax.make_mesh(shape, names, axis_types=types, devices=devices)
    if shape[0] % len(slices):
        raise ValueError(
            f"A mesh of data={shape[0]}, fsdp={shape[1]} does not fit {len(slices)} "
            "slices, which lie along data."
        )
    inside = shape[0] // len(slices), shape[1]
    found = mesh_utils.create_hybrid_device_mesh(inside, (len(slices), 1), devices)
    return Mesh(found, names, axis_types=types)


def over_batch(mesh: Mesh) -> NamedSharding:
    """The first axis over every device."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def everywhere(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def by_rules(
    mesh: Mesh, rules: Rules
) -> Callable[[str, tuple[int, ...]], NamedSharding]:
    """`(path, shape) -> sharding` by the first rule that matches the whole path.

    "shard" splits the largest axis that divides by the mesh's "fsdp"; a leaf without
    one stays whole. Raises ValueError for an unknown rule, and for a path that no rule
    matches.
    """
    for _, what in rules:
        if what not in ("replicate", "shard"):
            raise ValueError(f"A sharding rule says {what!r}: replicate or shard.")
    size = mesh.shape["fsdp"]

    def sharding(path: str, shape: tuple[int, ...]) -> NamedSharding:
        what = next((w for regex, w in rules if re.fullmatch(regex, path)), None)
        if what is None:
            raise ValueError(f"No sharding rule matches {path}; end them with '.*'.")
        even = [axis for axis, n in enumerate(shape) if n % size == 0 and n >= size]
        if what == "replicate" or not even:
            return everywhere(mesh)
        largest = max(even, key=lambda axis: shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, "fsdp"))

    return sharding


def of_tree(tree: Any, mesh: Mesh, rules: Rules) -> Any:
    """The sharding of every leaf; of theta the paths are "weights/unet/…"."""
    sharding = by_rules(mesh, rules)
    return jax.tree.map_with_path(
        lambda path, leaf: sharding(
            jax.tree_util.keystr(path, simple=True, separator="/"), leaf.shape
        ),
        tree,
    )


def of_state(
    state: TrainState, tx: optax.GradientTransformation, mesh: Mesh, rules: Rules
) -> TrainState:
    """The state's shardings: moments and averages lie as their parameters do.

    A moment of another shape, a row's scale or a factor, is small, and whole on each.
    """
    theta, whole = of_tree(state.theta, mesh, rules), everywhere(mesh)
    opt = optax.tree_map_params(
        tx,
        lambda own, lies, leaf: lies if own.shape == leaf.shape else whole,
        state.opt,
        theta,
        state.theta,
        transform_non_params=lambda _: whole,
    )
    ema = None if state.ema is None else theta
    return state.replace(step=whole, theta=theta, opt=opt, key=whole, ema=ema)


def _in_slices(device: jax.Device) -> bool:
    # GPUs have the number too, but no slices: any mesh may lie across their hosts.
    return device.platform == "tpu" and hasattr(device, "slice_index")
