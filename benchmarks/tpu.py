"""What one UNet forward and the sampler take on a TPU, by its compiler's account.

TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu python -m benchmarks.tpu --part forward

libtpu compiles for devices that are only described to it, so no TPU is needed; every
figure is compiled, none measured. The model is Stable Diffusion 1.5, of which only the
shapes exist, spread as the command spreads it: images over all devices, parameters on
each.
"""

import collections
import json
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled

from personax import generate
from personax.denoiser import Denoiser, Prompt
from personax.diffusion.guidance import cfg
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import ddim
from personax.networks.compute import Compute
from personax.networks.unet import init_unet, unet
from personax.spec import Spec

_COLLECTIVE = re.compile(
    r"(?:all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute"
    r"|collective-broadcast)(?=(?:-start)?\()"
)


def main(argv):
    mesh = describe(flags.FLAGS.topology)
    compute = Compute(
        flags.FLAGS.dtype, attention=flags.FLAGS.attention, platform="tpu"
    )
    schedule = ScheduleConfig(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
    )
    spec = Spec(schedule=schedule, compute=compute)
    batch = mesh.size * flags.FLAGS.images
    settings = {"batch": batch, "param_dtype": flags.FLAGS.param_dtype}
    start = time.perf_counter()
    if flags.FLAGS.part == "forward":
        compiled = compile_forward(spec, mesh, **settings)
    else:
        settings["steps"] = flags.FLAGS.steps
        compiled = compile_sampler(spec, mesh, **settings)
    line = {
        "question": flags.FLAGS.part,
        "model": "sd15",
        "source": f"compiled for {flags.FLAGS.topology}",
        "devices": mesh.size,
        **settings,
        "dtype": compute.dtype,
        "attention": compute.attention,
        **figures(compiled),
        "compilation_s": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(line), flush=True)


def describe(topology: str) -> Mesh:
    """The devices of a TPU such as "v5e:2x4" that need not be there, along "data"."""
    description = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    return Mesh(np.array(description.devices), ("data",), axis_types=(AxisType.Auto,))


def compile_forward(
    spec: Spec, mesh: Mesh, *, batch: int, param_dtype: str = "float32"
) -> Compiled:
    """The UNet of `batch` latents, spread over the mesh."""

    def forward(params, x, t, text):
        return unet(params, spec.unet, x, t, text, compute=spec.compute)[0]

    def inputs():
        x, text = jnp.zeros((batch, *_latent_shape(spec))), jnp.zeros(_text_shape(spec))
        return x, jnp.zeros(batch), jnp.broadcast_to(text, (batch, *text.shape[1:]))

    params = _unet_params(spec, mesh, param_dtype)
    return jax.jit(forward).lower(params, *_shapes(inputs, mesh, "data")).compile()


def compile_sampler(
    spec: Spec, mesh: Mesh, *, batch: int, steps: int, param_dtype: str = "float32"
) -> Compiled:
    """`personax.sample`'s drawing of `batch` latents: DDIM with one prompt's CFG."""
    solver = ddim()

    def inputs():
        prompt = Prompt(jnp.zeros(_text_shape(spec)))
        terms = cfg(prompt, prompt, jnp.asarray(3.0))
        return terms, solver.grid(spec.schedule, steps), jax.random.key(0)

    denoiser = Denoiser({"unet": _unet_params(spec, mesh, param_dtype)}, spec=spec)
    indices = _shapes(lambda: jnp.arange(batch), mesh, "data")
    draw = generate.make_draw(solver, _latent_shape(spec))
    return draw.lower({"base": denoiser}, *_shapes(inputs, mesh), indices).compile()


def figures(compiled: Compiled) -> dict[str, Any]:
    """Bytes on each device, its FLOPs, and the collectives between the devices.

    FLOPs, bytes accessed and `optimal_seconds`, the compiler's own estimate (absent
    where it has none), count a loop's body once, however often it runs: the sampler's
    steps and the chunks of attention alike.
    """
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    found = {
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "temp_bytes": memory.temp_size_in_bytes,
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "collectives": collections.Counter(_COLLECTIVE.findall(compiled.as_text())),
    }
    if cost.get("optimal_seconds", -1) >= 0:
        found["optimal_seconds"] = cost["optimal_seconds"]
    return found


def _unet_params(spec: Spec, mesh: Mesh, dtype: str) -> Any:
    params = _shapes(lambda: init_unet(jax.random.key(0), spec.unet), mesh)
    return jax.tree.map(lambda leaf: leaf.update(dtype=jnp.dtype(dtype)), params)


def _shapes(make: Callable[[], Any], mesh: Mesh, *axes: str) -> Any:
    """The shapes of what `make` returns, their first axes spread over `axes`."""
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.tree.map(
        lambda leaf: leaf.update(sharding=sharding), jax.eval_shape(make)
    )


def _latent_shape(spec: Spec) -> tuple[int, int, int]:
    side = spec.unet.sample_size
    return side, side, spec.unet.in_channels


def _text_shape(spec: Spec) -> tuple[int, int, int]:
    return 1, spec.text_encoder.max_position_embeddings, spec.unet.cross_attention_dim


def define_flags() -> None:
    """The benchmark's flags; a function, so that importing this file defines none."""
    flags.DEFINE_enum("part", "forward", ["forward", "sampler"], "What to compile.")
    flags.DEFINE_string("topology", "v5e:2x4", "The described TPU.")
    flags.DEFINE_integer("images", 1, "Images on each device.")
    flags.DEFINE_integer("steps", 2, "Of the sampler.")
    flags.DEFINE_string("dtype", "bfloat16", "Of activations.")
    flags.DEFINE_string("param_dtype", "bfloat16", "Of parameters.")
    flags.DEFINE_string("attention", "auto", "The attention kernel.")


if __name__ == "__main__":
    define_flags()
    app.run(main)
