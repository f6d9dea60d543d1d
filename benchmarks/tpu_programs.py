"""The programs that benchmarks.tpu_compile compiles, from shapes without arrays.

These are the training step of a method and the sampler, on a mesh.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.experimental import topologies
from jax.sharding import Mesh
from jax.stages import Lowered, Traced

from personax import methods
from personax.core.tree import flat
from personax.diffusion.denoiser import Denoiser, Prompt
from personax.diffusion.guidance import Term, complete
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS
from personax.diffusion.spec import Spec
from personax.methods.losses import Batch
from personax.methods.parts import folded_null_text
from personax.networks.clip_text import init_clip_text
from personax.networks.compute import Compute
from personax.networks.unet import cross_sites, init_unet
from personax.networks.vae import Posterior, init_vae
from personax.sampling.sampler import draw_latents
from personax.training import sharding
from personax.training.config import OptimizerConfig
from personax.training.optimizer import make_optimizer
from personax.training.state import create
from personax.training.step import make_step

METHODS = {
    "full": "dreambooth",
    "null_text": "concept_centric",
    "kv": "custom_diffusion",
}
_CLIP, _RATE, _EMA = 1.0, 1e-5, 0.9999
_SCHEDULE = ScheduleConfig(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    steps_offset=1,
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A program and its devices; the fields are the key of a line in the table."""

    program: str  # one of METHODS, or "sampler"
    topology: str = "v5e:2x4"
    slices: int = 1
    fsdp: int = 1  # devices that share one copy of what trains
    images: int = 1  # on each device
    remat: str = "none"
    optimizer: str = "adamw"
    ema: bool = False
    attention: str = "auto"
    param_dtype: str = "bfloat16"  # of the frozen base
    steps: int = 25  # of the sampler


class Program(NamedTuple):
    """A lowered program, and the memory that it needs beside its own arguments."""

    lowered: Lowered
    idle_bytes: int  # per device, of parameters that the program does not read


def describe(topology: str, slices: int = 1, fsdp: int = 1) -> Mesh:
    """The mesh of described TPUs such as "v5e:2x4", without hardware."""
    options = {"num_slices": slices} if slices > 1 else {}
    topology_description = topologies.get_topology_desc(
        platform="tpu", topology_name=topology, **options
    )
    return sharding.make_mesh(fsdp=fsdp, devices=topology_description.devices)


def sd15(case: Case, mesh: Mesh) -> Spec:
    """Stable Diffusion 1.5 with the case's compute options."""
    compute = Compute(
        "bfloat16", case.remat, attention=case.attention, platform="tpu", mesh=mesh
    )
    return Spec(schedule=_SCHEDULE, compute=compute)


def lower(case: Case, mesh: Mesh, spec: Spec) -> Program:
    """The case's program for a model of this spec."""
    make = lower_sampler if case.program == "sampler" else lower_step
    return make(case, mesh, spec)


def lower_step(case: Case, mesh: Mesh, spec: Spec) -> Program:
    """One optimisation step: with `fsdp`, all parameters and moments are sharded."""
    what = "shard" if case.fsdp > 1 else "replicate"
    rules = ((".*", what),)
    method = methods.make(METHODS[case.program])
    base = _denoiser(spec, mesh, rules, case.param_dtype)
    if case.program == "null_text":
        base = _folded(base, mesh)
    vocabulary = spec.text_encoder.vocab_size
    concept = methods.Concept("<v1>", "dog", (vocabulary,), (7,), "<v1> dog")
    key = jax.random.key(0)
    theta = jax.eval_shape(
        lambda params: methods.init(method, key, params, [concept]), base.params
    )
    rate = optax.constant_schedule(_RATE)
    tx = make_optimizer(rate, theta, OptimizerConfig(case.optimizer, clip=_CLIP))
    state = jax.eval_shape(
        lambda theta: create(theta, tx.init(theta), key, ema=case.ema), theta
    )
    placed = sharding.of_state(state, tx, mesh, rules)
    state = jax.tree.map(lambda x, lies: x.update(sharding=lies), state, placed)
    step = make_step(method, tx, ema_decay=_EMA, shardings=placed)
    batch = _batch(spec, mesh, mesh.size * case.images, words="tokens" in theta)
    return _program(step.trace(state, base, batch), (state, base, batch), spec, base)


def lower_sampler(case: Case, mesh: Mesh, spec: Spec) -> Program:
    """Sampling by Generalised Classifier-free Guidance, three terms of three models.

    The base on the empty text, a concept-centric model, another checkpoint on a prompt;
    parameters replicated, in the activations' dtype, as in `personax.sample`.
    """
    rules, dtype = sharding.REPLICATE, spec.compute.dtype
    models = {"base": _denoiser(spec, mesh, rules, dtype)}
    models["art"] = models["base"]
    method = methods.make(METHODS["null_text"])
    folded = _folded(models["base"], mesh)
    models["face"] = jax.tree.map(
        lambda x: x.update(dtype=jnp.dtype(dtype), sharding=sharding.everywhere(mesh)),
        jax.eval_shape(
            lambda base: methods.bind(
                method, base, methods.init(method, jax.random.key(0), base.params, [])
            ),
            folded,
        ),
    )
    solver = SOLVERS["dpmpp_2m"]

    def inputs():
        text = Prompt(jnp.zeros(_text_shape(spec)))
        weights = {"face": jnp.asarray(1.5), "art": jnp.asarray(2.5)}
        terms = [Term(text, weight, name) for name, weight in weights.items()]
        grid = solver.grid(spec.schedule, case.steps)
        return complete(terms, text, "base"), grid, jax.random.key(0)

    indices = _shapes(
        lambda: jnp.arange(mesh.size * case.images), sharding.over_batch(mesh)
    )
    shape = spec.latent_shape(*spec.size)
    arguments = (models, *_shapes(inputs, sharding.everywhere(mesh)), indices)
    return _program(
        draw_latents.trace(solver, shape, *arguments), arguments, spec, models["base"]
    )


def _program(traced: Traced, arguments: Any, spec: Spec, base: Denoiser) -> Program:
    """The lowered program; the autoencoder is idle, too."""
    jaxpr = traced.jaxpr.jaxpr
    read = {id(x) for eqn in jaxpr.eqns for x in eqn.invars}
    leaves = zip(jax.tree.leaves(arguments), jaxpr.invars, strict=True)
    idle = [leaf for leaf, variable in leaves if id(variable) not in read]
    vae = jax.eval_shape(lambda: init_vae(jax.random.key(0), spec.vae))
    of = jax.tree.leaves(base.params)[0]
    idle += [x.update(dtype=of.dtype) for x in jax.tree.leaves(vae)]
    return Program(traced.lower(), sum(map(_bytes, idle)))


def _bytes(leaf: jax.ShapeDtypeStruct) -> int:
    shape = leaf.shape
    if leaf.sharding is not None:
        shape = leaf.sharding.shard_shape(shape)
    return math.prod(shape) * leaf.dtype.itemsize


def _denoiser(spec: Spec, mesh: Mesh, rules: sharding.Rules, dtype: str) -> Denoiser:
    def make():
        key = jax.random.key(0)
        return {
            "unet": init_unet(key, spec.unet),
            "text_encoder": init_clip_text(key, spec.text_encoder),
        }

    params = jax.eval_shape(make)
    params = jax.tree.map(
        lambda x, lies: x.update(dtype=jnp.dtype(dtype), sharding=lies),
        params,
        sharding.of_tree(params, mesh, rules),
    )
    return Denoiser(params, spec=spec)


def _folded(base: Denoiser, mesh: Mesh) -> Denoiser:
    """The base with a vector for each site, as from `methods.prepare`."""
    leaves = flat(base.params)
    vectors = {
        site: jax.ShapeDtypeStruct(
            leaves[f"unet/{site}/to_out/0/bias"].shape,
            jnp.float32,
            sharding=sharding.everywhere(mesh),
        )
        for site in cross_sites(base.params["unet"])
    }
    return base.replace(prepared={folded_null_text.NAME: vectors})


def _batch(spec: Spec, mesh: Mesh, rows: int, *, words: bool) -> Batch:
    """Cached latents and captions, encoded unless words are trained."""

    def make():
        latents = jnp.zeros((rows, *spec.latent_shape(*spec.size)))
        _, tokens, width = _text_shape(spec)
        ids = jnp.zeros((rows, tokens), jnp.int32)
        text = None if words else jnp.zeros((rows, tokens, width))
        return Batch(Posterior(latents, latents), ids, text)

    return _shapes(make, sharding.over_batch(mesh))


def _shapes(make: Callable[[], Any], lies: jax.sharding.NamedSharding) -> Any:
    """The shapes of `make`'s result with that sharding."""
    return jax.tree.map(lambda x: x.update(sharding=lies), jax.eval_shape(make))


def _text_shape(spec: Spec) -> tuple[int, int, int]:
    return 1, spec.text_encoder.max_position_embeddings, spec.unet.cross_attention_dim
