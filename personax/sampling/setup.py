"""From options to a sampler with its models, devices and hints."""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import UInt8

from personax.concepts.bind import Model
from personax.concepts.load_models import Loaded, load_models
from personax.core.errors import RunFailedError
from personax.core.images import Pixels
from personax.core.typing import Key
from personax.diffusion.guidance import Term
from personax.diffusion.guidance_schedule import Schedule
from personax.diffusion.img2img import Picture
from personax.diffusion.solvers import get_solver
from personax.methods.parts.folded_null_text import reads_text
from personax.networks.compute import Compute
from personax.sampling import prompt_terms
from personax.sampling.hints import HintOptions, ModelHint, add_hints, read_hints
from personax.sampling.options import ModelOptions, SamplingOptions, check_finite
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import (
    Decoded,
    Sampler,
    decode_checked,
    denoisers,
    draw_latents,
    make_sampler,
)


@dataclasses.dataclass(frozen=True)
class SamplingSetup:
    """Loaded models, the sampler, and what the options say about a run."""

    loaded: Loaded
    mesh: Mesh
    options: SamplingOptions
    sampler: Sampler
    size: tuple[int, int]  # height, width
    solver: str  # its name
    hints: Mapping[str, ModelHint] = dataclasses.field(default_factory=dict)

    @property
    def models(self) -> Mapping[str, Model]:
        return self.loaded.models

    @property
    def key(self) -> Key:
        return jax.random.key(self.options.seed)

    def check(self, term_specs: Sequence[TermSpec]) -> None:
        """Raise ValueError for an unknown model or placeholder, or an unused hint.

        A prompt to a model without text conditioning gives a warning on stderr.
        """
        options = self.options
        null = TermSpec(options.negative, 1.0, options.unconditional)
        every = (*term_specs, null)
        prompt_terms.check(
            self.models, term_specs, options.unconditional, options.negative
        )
        for term_spec in term_specs:
            if not isinstance(term_spec.weight, Schedule):
                check_finite("a term's weight", term_spec.weight)
        for name in self.hints.keys() - {term_spec.model for term_spec in every}:
            raise ValueError(
                f"--hint {name}=…: no term uses the model {name!r}; add --term "
                f"{name}@1:…"
            )
        for name, model in self.models.items():
            if reads_text(model.denoiser.params):
                continue
            ignored = [w.prompt for w in every if w.model == name and w.prompt]
            if ignored:
                quoted = ", ".join(map(repr, dict.fromkeys(ignored)))
                line = f"personax: the model {name!r} has no text conditioning; "
                print(f"{line}it ignores {quoted}.", file=sys.stderr)

    def terms(self, term_specs: Sequence[TermSpec]) -> list[Term]:
        """The encoded terms with their hints, on all devices."""
        options, grid = self.options, self.sampler.grid
        terms = prompt_terms.to_terms(
            self.models,
            term_specs,
            negative=options.negative,
            unconditional=options.unconditional,
            grid=grid,
        )
        return self.replicate(add_hints(terms, self.hints, grid))

    def replicate(self, terms: Sequence[Term]) -> list[Term]:
        return jax.device_put(list(terms), NamedSharding(self.mesh, PartitionSpec()))

    def batches(self) -> list[jax.Array]:
        """The image indices in batches of one size, spread over the devices."""
        count, devices = self.options.num_images, self.mesh.size
        size = math.ceil(min(self.options.batch, count) / devices) * devices
        number = math.ceil(count / size)
        over_devices = NamedSharding(self.mesh, PartitionSpec("data"))
        indices = np.split(np.arange(number * size), number)
        return [jax.device_put(batch, over_devices) for batch in indices]

    def compile(self, terms: Sequence[Term], picture: Picture | None = None) -> None:
        """Compile ahead what the sampler runs for these terms."""
        sampler, indices = self.sampler, self.batches()[0]
        draw = draw_latents.lower(
            sampler.solver,
            sampler.shape,
            denoisers(self.models, terms),
            terms,
            *(sampler.grid, self.key, indices, picture),
            **sampler.flags,
        )
        sharding = draw.compile().output_shardings.latents
        shape = (*indices.shape, *sampler.shape)
        latents = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
        arguments = sampler.spec, sampler.vae, latents, sampler.decoder
        decode_checked.lower(*arguments).compile()

    def draw(
        self, terms: Sequence[Term], picture: Picture | None = None
    ) -> UInt8[np.ndarray, "n height width 3"]:
        """All pictures of the terms. Raises RunFailedError if one is not finite."""
        pictures, sampler = [], self.sampler
        for indices in self.batches():
            arguments = self.models, terms, self.key, indices, picture
            decoded = sampler.decode_checked(sampler.latents(*arguments).latents)
            pictures += finite_or_none(decoded)
        pictures = pictures[: self.options.num_images]
        failed = [f"picture {i}" for i, x in enumerate(pictures) if x is None]
        if failed:
            raise not_finite(failed)
        return np.stack(pictures)


def finite_or_none(decoded: Decoded) -> list[Pixels | None]:
    """The pictures, None for those that are not finite."""
    pairs = zip(np.asarray(decoded.pictures), np.asarray(decoded.finite), strict=True)
    return [pixels if finite else None for pixels, finite in pairs]


def not_finite(names: Sequence[str]) -> RunFailedError:
    """The error of pictures that were not written because of NaN or infinities."""
    listed = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
    them = "is" if len(names) == 1 else "are"
    return RunFailedError(
        f"{listed} {them} not finite (NaN or infinite numbers) and {them} not written: "
        "a guidance weight or a strength may be too large, or the dtype too small; try "
        "--dtype float32."
    )


def set_up(
    models: ModelOptions,
    options: SamplingOptions,
    hints: HintOptions = HintOptions(),
) -> SamplingSetup:
    """Load the models and prepare to sample from them.

    Raises FileNotFoundError or ValueError for invalid options.
    """
    mesh = local_mesh()
    setup = make_setup(load(models, mesh), mesh, options)
    named = read_hints(hints, models.controls, setup.size)
    return dataclasses.replace(setup, hints=named)


def make_setup(loaded: Loaded, mesh: Mesh, options: SamplingOptions) -> SamplingSetup:
    """A setup of loaded models. Raises ValueError for invalid options."""
    spec = loaded.models["base"].denoiser.spec
    name = options.solver or spec.schedule.solver
    solver, size = get_solver(name, options.eta), options.size or spec.size
    schedule = spec.schedule.read_by(name)
    if options.spacing == "karras":
        schedule = dataclasses.replace(schedule, use_karras_sigmas=True)
    elif options.spacing:
        schedule = dataclasses.replace(schedule, timestep_spacing=options.spacing)
    spec = dataclasses.replace(spec, schedule=schedule)
    sampler = make_sampler(spec, loaded.base.params["vae"], solver, options.steps, size)
    return SamplingSetup(loaded, mesh, options, sampler, size, name)


def load(options: ModelOptions, mesh: Mesh) -> Loaded:
    """The models, replicated on the devices of the mesh."""
    dtype = dtype_of(options)
    return load_models(
        options.base,
        options.concepts,
        options.models,
        options.controls,
        compute=Compute(dtype, mesh=mesh),
        any_base=options.any_base,
        sharding=NamedSharding(mesh, PartitionSpec()),
        **options.reading,
    )


def dtype_of(options: ModelOptions, *, exact: bool = False) -> str:
    """The given dtype, or float32 on a CPU and where it is `exact`, else bfloat16.

    Raises ValueError for one that the device does not compute in.
    """
    on_cpu = jax.default_backend() == "cpu"
    if options.dtype == "float16" and on_cpu:
        raise ValueError(
            "--dtype float16 is not computed on a CPU; use float32 or bfloat16."
        )
    return options.dtype or ("float32" if exact or on_cpu else "bfloat16")


def local_mesh() -> Mesh:
    """The devices of this process along one axis, "data"."""
    return Mesh(np.array(jax.local_devices()), ("data",))
