"""The command that draws pictures: `python -m personax.sample --prompt "a dog"`."""

import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float
from tqdm import tqdm

from personax import command, generate, images, prompts
from personax.diffusion import heat
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS, Solver, ddim
from personax.loading import Base, load_base
from personax.model import Model, from_base, with_concepts
from personax.networks.compute import Compute
from personax.networks.tokenizer import positions
from personax.prompts import Wish
from personax.spec import Spec

FLAGS = flags.FLAGS
_SPACINGS = ("leading", "trailing", "linspace", "karras")


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    text, many = flags.DEFINE_string, flags.DEFINE_multi_string
    command.define_base_flags()
    many("concept", [], "[<NAME>=]DIR: a trained concept, under another name.")
    many("model", [], "NAME=SOURCE: another base, for terms NAME@WEIGHT:PROMPT.")
    many("prompt", [], "A term with the weight --guidance.")
    many("term", [], "[MODEL@]WEIGHT:PROMPT. All prompts and terms add up.")
    text("negative", "", "Stands for the unconditional term's empty prompt.")
    text("unconditional", "base", "The model of the unconditional term.")
    flags.DEFINE_float("guidance", 3.0, "The weight of every --prompt.")
    flags.DEFINE_enum("solver", None, list(SOLVERS), "Default: the base's own.")
    flags.DEFINE_float("eta", 0.0, "Share of DDPM's noise in DDIM.", 0.0, 1.0)
    flags.DEFINE_enum(
        "spacing", None, _SPACINGS, "Where the steps lie. Default: the base's own."
    )
    flags.DEFINE_integer("steps", 25, "Solver steps.", 1)
    flags.DEFINE_integer("num_images", 4, "How many pictures.", 1)
    flags.DEFINE_integer("batch", 8, "Pictures at a time, on all local devices.", 1)
    flags.DEFINE_integer("seed", 0, "Picture i depends on the seed and i alone.")
    text("size", None, "Side, or WIDTHxHEIGHT, in pixels. Default: the base's own.")
    flags.DEFINE_enum(
        "dtype",
        None,
        ["float32", "bfloat16", "float16"],
        "Of weights and activations. Default: float32 on a CPU, else bfloat16.",
    )
    flags.DEFINE_enum(
        "decode",
        "whole",
        ["whole", "sliced", "tiled"],
        "The autoencoder's way; sliced and tiled take less memory.",
    )
    flags.DEFINE_enum(
        "f_stream",
        "shared_latent",
        ["shared_latent", "own_trajectory"],
        "Where Infusion's frozen stream stands: at each step's latents, or on its own.",
    )
    text("attention", "", "Words, as dog,hat: where they look, in attention.png.")
    flags.DEFINE_integer(
        "attention_side", 0, "Rows of the maps. Default: see diffusion/heat.py.", 0
    )
    flags.DEFINE_list("attention_places", "down,up", "Among down, mid and up.")
    flags.DEFINE_list("attention_steps", "0,1", "First and last share of the steps.")
    text("out", "out/sample", "Folder for the pictures.")


def main(argv: Sequence[str]) -> None:
    command.start()
    watch = command.Stopwatch()
    with watch("load"), command.one_sentence():
        wishes = _wishes(argv)
        mesh = jax.make_mesh(
            (jax.local_device_count(),), ("data",), axis_types=(AxisType.Auto,)
        )
        everywhere = NamedSharding(mesh, PartitionSpec())
        base, models = _models(everywhere)
        prompts.check(models, wishes, FLAGS.unconditional)
        spec = models["base"].denoiser.spec
        height, width = _size(spec)
        shape = spec.latent_shape(height, width)
        solver, schedule = _solver(spec.schedule)
        grid = solver.grid(schedule, FLAGS.steps)
        terms = prompts.to_terms(
            models, wishes, negative=FLAGS.negative, unconditional=FLAGS.unconditional
        )
        batches = _batches(mesh)
        looks = _looks(models, wishes)
        look = _look(models["base"], shape) if looks else None
        own = _own_trajectory(models, looks)

    denoisers = {name: model.denoiser for name, model in models.items()}
    terms = jax.device_put(terms, everywhere)
    inputs = denoisers, terms, grid, jax.random.key(FLAGS.seed)
    with watch("compile"):
        draw = generate.make_draw(solver, shape, look, own_trajectory=own)
        draw = draw.lower(*inputs, batches[0]).compile()
        placed = draw.output_shardings
        latents = jax.ShapeDtypeStruct(
            (*batches[0].shape, *shape),
            np.float32,
            sharding=placed[0] if looks else placed,
        )
        decode = generate.make_decode(spec, FLAGS.decode)
        decode = decode.lower(base.params["vae"], latents).compile()

    pictures, heats = [], []
    with tqdm(total=FLAGS.num_images, unit="image", desc="sampling") as progress:
        for indices in batches:
            with watch("sample"):
                latents = jax.block_until_ready(draw(*inputs, indices))
            if looks:
                latents, maps = latents
                heats.append(np.asarray(maps))
            with watch("decode"):
                pictures += list(np.asarray(decode(base.params["vae"], latents)))
            progress.update(min(len(pictures), FLAGS.num_images) - progress.n)
    with watch("write"):
        out = pathlib.Path(FLAGS.out)
        settings = _settings(base, solver_name(spec.schedule), width, height)
        _write(out, pictures[: FLAGS.num_images], wishes, settings)
        if looks:
            _write_attention(out, pictures, np.concatenate(heats, axis=1), looks)
    print(f"{FLAGS.num_images} pictures in {out}: {watch}.")


def solver_name(schedule: ScheduleConfig) -> str:
    """The solver that was asked for, or the one of the base's published scheduler."""
    return FLAGS.solver or schedule.solver


def _wishes(argv: Sequence[str]) -> list[Wish]:
    if argv[1:]:
        raise ValueError(f"{argv[1]!r} belongs to no flag: quote prompts with spaces.")
    short = [Wish(prompt, FLAGS.guidance) for prompt in FLAGS.prompt]
    wishes = short + [prompts.parse(term) for term in FLAGS.term]
    return wishes or [Wish("", 1.0)]


def _models(sharding: NamedSharding) -> tuple[Base, dict[str, Model]]:
    """The base and every model that a term may name, "base" with the concept bound."""
    on_cpu = jax.default_backend() == "cpu"
    compute = Compute(FLAGS.dtype or ("float32" if on_cpu else "bfloat16"))
    options: dict[str, Any] = {
        "param_dtype": compute.dtype,
        "sharding": sharding,
        **command.base_options(FLAGS),
    }
    base = load_base(FLAGS.base, **options)
    models = {"base": from_base(base, compute)}
    models["base"] = with_concepts(models["base"], base, FLAGS.concept)
    for text in FLAGS.model:
        name, equals, source = text.partition("=")
        if not (name and equals and source) or name in models:
            raise ValueError(f"--model {text!r} is not NAME=SOURCE with a new NAME.")
        models[name] = from_base(load_base(source, **options), compute)
    return base, models


class _Word(NamedTuple):
    """A word whose attention is asked for, and where it stands."""

    word: str
    term: int  # among the guidance terms, the unconditional one being 0
    at: tuple[int, ...]


def _looks(models: Mapping[str, Model], wishes: Sequence[Wish]) -> list[_Word]:
    """The words of --attention, each in the first prompt that holds it."""
    found = []
    for word in command.listed(FLAGS.attention):
        places = [
            (j, positions(models[wish.model].tokenizer, wish.prompt, word))
            for j, wish in enumerate(wishes, start=1)
        ]
        places = [(j, at) for j, at in places if at]
        if not places:
            asked = " and ".join(repr(wish.prompt) for wish in wishes)
            raise ValueError(f"--attention: {word!r} is no word of {asked}.")
        found.append(_Word(word, *places[0]))
    return found


def _own_trajectory(models: Mapping[str, Model], looks: Sequence[_Word]) -> bool:
    if FLAGS.f_stream == "shared_latent":
        return False
    if all(model.denoiser.reference is None for model in models.values()):
        raise ValueError("--f_stream is Infusion's; no concept here has two streams.")
    if looks:
        raise ValueError("--attention needs --f_stream shared_latent.")
    return True


def _look(model: Model, shape: tuple[int, int, int]) -> heat.Look:
    try:
        first, last = (float(share) for share in FLAGS.attention_steps)
    except ValueError:
        given = ",".join(FLAGS.attention_steps)
        raise ValueError(f"--attention_steps {given!r} is not FIRST,LAST, such as 0,1.")
    return heat.make_look(
        model.denoiser,
        shape,
        side=FLAGS.attention_side,
        places=FLAGS.attention_places,
        steps=(first, last),
    )


def _size(spec: Spec) -> tuple[int, int]:
    """(height, width) in pixels."""
    if FLAGS.size is None:
        return spec.size
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", FLAGS.size)
    if not found:
        raise ValueError(f"--size {FLAGS.size!r} is neither a side nor WIDTHxHEIGHT.")
    return int(found[2] or found[1]), int(found[1])


def _solver(schedule: ScheduleConfig) -> tuple[Solver, ScheduleConfig]:
    name = solver_name(schedule)
    if FLAGS.eta and name != "ddim":
        raise ValueError(f"--eta is DDIM's; the solver is {name!r}.")
    if FLAGS.spacing == "karras":
        schedule = dataclasses.replace(schedule, use_karras_sigmas=True)
    elif FLAGS.spacing:
        schedule = dataclasses.replace(schedule, timestep_spacing=FLAGS.spacing)
    return ddim(FLAGS.eta) if FLAGS.eta else SOLVERS[name], schedule


def _batches(mesh: Mesh) -> list[jax.Array]:
    """Image indices by batch, each as large as the first: one compilation for all."""
    wanted = min(FLAGS.batch, FLAGS.num_images)
    size = math.ceil(wanted / mesh.size) * mesh.size  # as many on every device
    count = math.ceil(FLAGS.num_images / size)
    indices = np.arange(count * size)
    spread = NamedSharding(mesh, PartitionSpec("data"))
    return [jax.device_put(batch, spread) for batch in np.split(indices, count)]


def _settings(base: Base, solver: str, width: int, height: int) -> dict[str, Any]:
    """What a picture's metadata says beside its prompt, under the names in use."""
    more: dict[str, Any] = {}
    if FLAGS.spacing:
        more["Schedule type"] = FLAGS.spacing
    if FLAGS.eta:
        more["Eta"] = FLAGS.eta
    return command.settings(
        FLAGS, base, sampler=solver, size=f"{width}x{height}", **more
    )


def _write(
    out: pathlib.Path,
    pictures: Sequence[np.ndarray],
    wishes: Sequence[Wish],
    settings: Mapping[str, Any],
) -> None:
    """The pictures, a labelled sheet of them, and samples.json."""
    prompt = " AND ".join(wish.prompt for wish in wishes)
    records = []
    for index, pixels in enumerate(pictures):
        name = f"{index:04d}.png"
        text = images.parameters(
            prompt, FLAGS.negative, **settings, **{"Image index": index}
        )
        images.write_png(out / name, pixels, {"parameters": text})
        records.append({"file": name, "seed": FLAGS.seed, "index": index})
    captions = [f"image {index}" for index in range(len(pictures))]
    title = _title(wishes, settings)
    sheet = images.grid(pictures, captions=captions, title=title)
    images.write_png(out / "grid.png", sheet)
    record = {
        "terms": [wish._asdict() for wish in wishes],
        "negative": FLAGS.negative,
        "unconditional": FLAGS.unconditional,
        "settings": dict(settings),
        "samples": records,
    }
    (out / "samples.json").write_text(json.dumps(record, indent=2) + "\n")


def _write_attention(
    out: pathlib.Path,
    pictures: Sequence[np.ndarray],
    maps: Float[np.ndarray, "j b y x n"],
    words: Sequence[_Word],
) -> None:
    """attention.png, a row of overlays for each word, and their arrays beside it."""
    shown = pictures[: FLAGS.num_images]
    arrays = {
        each.word: heat.word(maps[each.term, : len(shown)], each.at) for each in words
    }
    tiles = list(shown)
    for each in words:
        tiles += map(images.overlay, shown, arrays[each.word])
    labels = ["", *(f"{word}, at most {x.max():.2f}" for word, x in arrays.items())]
    sheet = images.grid(tiles, columns=len(shown), row_labels=labels)
    images.write_png(out / "attention.png", sheet)
    np.savez(out / "attention.npz", **arrays)


def _title(wishes: Sequence[Wish], settings: Mapping[str, Any]) -> str:
    terms = " + ".join(str(wish) for wish in wishes)
    details = ("Sampler", "Steps", "Seed", "Model")
    return terms + "\n" + ", ".join(f"{name}: {settings[name]}" for name in details)


if __name__ == "__main__":
    define_flags()
    command.run(main)
