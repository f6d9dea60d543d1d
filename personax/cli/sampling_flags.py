"""What the commands that draw from terms share: their flags, models, steps, batches."""

import dataclasses
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from personax.cli import command, controlnet_flags
from personax.cli.controlnet_flags import Shown
from personax.concepts.bind import Model
from personax.concepts.load_models import load_models
from personax.diffusion.solvers import SOLVERS, Grid, Solver, ddim
from personax.diffusion.spec import Spec
from personax.loading import Base
from personax.methods.parts.folded_null_text import reads_text
from personax.networks.compute import Compute
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import Sampler

_SPACINGS = ("leading", "trailing", "linspace", "karras")


def define_flags() -> None:
    """The flags that say which models draw, and how; `set_up` reads them."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    command.define_base_flags()
    many("concept", [], "[<NAME>=]DIR: a trained concept, under another name.")
    many(
        "model",
        [],
        "NAME=SOURCE: a model for terms NAME@WEIGHT:PROMPT. SOURCE is a base, or the "
        "folder of a concept, which comes with the base that it names.",
    )
    many(
        "term",
        [],
        "[MODEL@]WEIGHT:PROMPT. All add up; the rest of the weight is the "
        "unconditional term's. WEIGHT may be negative and change over the steps: A>B "
        "goes straight from A to B, A[LOW,HIGH] holds in that share of the steps and "
        "is 0 elsewhere, and sums such as 1+2>0[0.2,0.8] add up. Rectify a customised "
        "checkpoint: --model mine=DIR --term 'mine@3:a dog'. A third one's style: "
        "--model face=DIR --model art=DIR --term 'face@1.5:' --term 'art@2:'.",
    )
    controlnet_flags.define_flags()
    text("negative", "", "Stands for the unconditional term's empty prompt.")
    text("unconditional", "base", "The model of the unconditional term.")
    flags.DEFINE_enum("solver", None, list(SOLVERS), "Default: the base's own.")
    flags.DEFINE_float("eta", 0.0, "Share of DDPM's noise in DDIM.", 0.0, 1.0)
    flags.DEFINE_enum(
        "spacing", None, _SPACINGS, "Where the steps lie. Default: the base's own."
    )
    flags.DEFINE_integer("steps", 25, "Solver steps.", 1)
    flags.DEFINE_integer("num_images", 4, "How many pictures of each.", 1)
    flags.DEFINE_integer("batch", 8, "Pictures at a time, on all local devices.", 1)
    flags.DEFINE_integer("seed", 0, "Picture i depends on the seed and i alone.")
    text("size", None, "Side, or WIDTHxHEIGHT, in pixels. Default: the base's own.")
    flags.DEFINE_enum(
        "dtype",
        None,
        ["float32", "bfloat16", "float16"],
        "Of weights and activations. Default: float32 on a CPU, else bfloat16.",
    )


class Drawing(NamedTuple):
    """The models, the size in pixels, and the steps to be taken."""

    base: Base
    models: dict[str, Model]
    marks: dict[str, str]  # see `Loaded`
    height: int
    width: int
    solver: Solver
    solver_name: str  # the one that was asked for, or of the base's scheduler
    grid: Grid
    mesh: Mesh
    shown: dict[str, Shown]  # what models with a ControlNet follow

    @property
    def spec(self) -> Spec:
        return self.models["base"].denoiser.spec

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.spec.latent_shape(self.height, self.width)

    @property
    def sampler(self) -> Sampler:
        vae = self.base.params["vae"]
        return Sampler(self.spec, vae, self.solver, self.grid, self.shape)

    @property
    def everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def settings(self) -> dict[str, Any]:
        """What a picture's metadata says of it, beside `command.settings`."""
        return {
            "sampler": self.solver_name,
            "size": f"{self.width}x{self.height}",
        }


def set_up(given: Any) -> Drawing:
    """What the flags `given` ask for; ValueError or FileNotFoundError in a sentence."""
    mesh = jax.make_mesh(
        (jax.local_device_count(),), ("data",), axis_types=(AxisType.Auto,)
    )
    on_cpu = jax.default_backend() == "cpu"
    loaded = load_models(
        given.base,
        given.concept,
        command.named_values("model", given.model),
        command.named_values("control", given.control),
        compute=Compute(
            given.dtype or ("float32" if on_cpu else "bfloat16"), mesh=mesh
        ),
        sharding=NamedSharding(mesh, PartitionSpec()),
        **command.base_options(given),
    )
    spec = loaded.models["base"].denoiser.spec
    height, width = _size(given.size, spec)
    spec.latent_shape(height, width)  # for its ValueError
    name = given.solver or spec.schedule.solver
    schedule = spec.schedule
    if given.eta and name != "ddim":
        raise ValueError(f"--eta is DDIM's; the solver is {name!r}.")
    if given.spacing == "karras":
        schedule = dataclasses.replace(schedule, use_karras_sigmas=True)
    elif given.spacing:
        schedule = dataclasses.replace(schedule, timestep_spacing=given.spacing)
    solver = ddim(given.eta) if given.eta else SOLVERS[name]
    grid = solver.grid(schedule, given.steps)
    shown = controlnet_flags.read_hints(given, (height, width))
    return Drawing(*loaded, height, width, solver, name, grid, mesh, shown)


def check(given: Any, drawing: Drawing, term_specs: Sequence[TermSpec]) -> None:
    """ValueError for what `prompts.check` refuses, and for a hint that nobody sees.

    A prompt that its model does not read gets a line on stderr.
    """
    prompt_terms.check(drawing.models, term_specs, given.unconditional)
    null = TermSpec(given.negative, 1.0, given.unconditional)
    for name in drawing.shown.keys() - {
        term_spec.model for term_spec in (*term_specs, null)
    }:
        raise ValueError(
            f"No term is of the model {name!r}, which --hint is for: --term {name}@1:…"
        )
    for name, model in drawing.models.items():
        if reads_text(model.denoiser.params):
            continue
        unread = [w.prompt for w in (*term_specs, null) if w.model == name and w.prompt]
        if unread:
            quoted = ", ".join(map(repr, dict.fromkeys(unread)))
            line = f"personax: the model {name!r} reads no text: {quoted} says nothing."
            print(line, file=sys.stderr)


def make_terms(
    given: Any, drawing: Drawing
) -> Callable[[Sequence[TermSpec]], list[prompt_terms.Term]]:
    """A function from wishes to guidance terms, on all devices."""

    def terms(term_specs: Sequence[TermSpec]) -> list[prompt_terms.Term]:
        encoded = prompt_terms.to_terms(
            drawing.models,
            term_specs,
            negative=given.negative,
            unconditional=given.unconditional,
            grid=drawing.grid,
        )
        encoded = controlnet_flags.give(encoded, drawing.shown, drawing.grid)
        return jax.device_put(encoded, drawing.everywhere)

    return terms


def batches(given: Any, mesh: Mesh) -> list[jax.Array]:
    """Image indices by batch, each as large as the first: one compilation for all."""
    wanted = min(given.batch, given.num_images)
    size = math.ceil(wanted / mesh.size) * mesh.size  # as many on every device
    count = math.ceil(given.num_images / size)
    indices = np.arange(count * size)
    spread = NamedSharding(mesh, PartitionSpec("data"))
    return [jax.device_put(batch, spread) for batch in np.split(indices, count)]


def _size(text: str | None, spec: Spec) -> tuple[int, int]:
    """(height, width) in pixels."""
    if text is None:
        return spec.size
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not found:
        raise ValueError(f"--size {text!r} is neither a side nor WIDTHxHEIGHT.")
    return int(found[2] or found[1]), int(found[1])
