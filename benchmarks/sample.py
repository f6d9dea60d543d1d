"""Time from a prompt to pictures, against torch diffusers' pipeline.

python -m benchmarks.sample --model emoji --images 8 --steps 25
python -m benchmarks.sample --model sd15 --images 1 --steps 2 --runs 1

Both sides encode the prompt, take DDIM steps with classifier-free guidance from the
same noise, and decode to uint8, in float32. Loading and compilation are not timed.
"""

import jax
import numpy as np
import torch
from absl import app, flags

from benchmarks import timing, torch_models
from personax.concepts.bind import from_base
from personax.diffusion.guidance import guide
from personax.diffusion.sampling import sample
from personax.diffusion.solvers import ddim
from personax.networks.compute import Compute
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import decode_latents

PROMPT, GUIDANCE = "a dog wearing a top hat on the beach", 3.0

FLAGS = flags.FLAGS
flags.DEFINE_enum("model", "emoji", ["emoji", "sd15"], "Which pipeline.")
flags.DEFINE_integer("images", 8, "Pictures, in one batch.")
flags.DEFINE_integer("steps", 25, "DDIM steps.")
flags.DEFINE_integer("runs", 5, "Counted runs of each side.")
flags.DEFINE_string("attention", "auto", "personax's attention kernel.")
flags.DEFINE_string("convolution", "auto", "personax's convolution kernel.")


def main(argv):
    pipeline, base = torch_models.pipelines(FLAGS.model)
    compute = Compute(attention=FLAGS.attention, convolution=FLAGS.convolution)
    model, solver = from_base(base, compute), ddim()
    spec = model.denoiser.spec
    size = spec.unet.sample_size * spec.vae.factor
    shape = FLAGS.images, *spec.latent_shape(size, size)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    latents = torch.tensor(noise.transpose(0, 3, 1, 2))
    grid = solver.grid(spec.schedule, FLAGS.steps)
    pictures = {}

    @jax.jit
    def draw(denoiser, terms, x):
        return sample(guide({"base": denoiser}, terms), solver, grid, x)

    def torch_side():
        images = pipeline(
            PROMPT,
            latents=latents,
            num_images_per_prompt=FLAGS.images,
            num_inference_steps=FLAGS.steps,
            guidance_scale=GUIDANCE,
            height=size,
            width=size,
            output_type="np",
        ).images
        pictures["torch"] = np.round(images * 255).astype(np.uint8)

    def personax_side():
        terms = prompt_terms.to_terms({"base": model}, [TermSpec(PROMPT, GUIDANCE)])
        z0 = draw(model.denoiser, terms, noise)
        pictures["personax"] = np.asarray(decode_latents(spec, base.params["vae"], z0))

    sides = {"torch": torch_side, "personax": personax_side}
    seconds = timing.alternate(sides, FLAGS.runs)
    ours, theirs = (pictures[name].astype(int) for name in ("personax", "torch"))
    timing.report(
        "sample",
        seconds,
        model=FLAGS.model,
        images=FLAGS.images,
        steps=FLAGS.steps,
        torch_threads=torch.get_num_threads(),
        max_pixel_difference=int(np.abs(ours - theirs).max()),
        pixel_deviation=round(float(theirs.std()), 1),
        attention=FLAGS.attention,
        convolution=FLAGS.convolution,
    )


if __name__ == "__main__":
    app.run(main)
