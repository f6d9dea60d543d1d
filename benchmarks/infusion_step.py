"""Cost of Infusion's frozen stream in a training step.

    python -m benchmarks.infusion_step --batch 8
    python -m benchmarks.infusion_step --base DIR --batch 1  # see random_sd15

Compares the step with the frozen stream's attention maps with the step without them:
the same residuals, cached latents and text. Prints one JSON line.
"""

import jax
import jax.numpy as jnp
import optax
from absl import app, flags

from benchmarks import timing
from personax import methods
from personax.concepts.bind import from_base
from personax.loading import load_base
from personax.methods import Concept
from personax.methods.infusion import infusion
from personax.methods.losses import Batch
from personax.networks.compute import Compute
from personax.networks.tokenizer import concept_mask, tokenize
from personax.networks.vae import Posterior
from personax.sampling.prompt_terms import to_prompt
from personax.training.state import create
from personax.training.step import make_step

FLAGS = flags.FLAGS
PROMPT, WORD = "a photo of a dog", "dog"


def define_flags() -> None:
    flags.DEFINE_string("base", "emoji", "emoji, or a folder in diffusers' layout.")
    flags.DEFINE_integer("batch", 8, "Batch size.")
    flags.DEFINE_integer("repeats", 5, "Counted steps of each side.")
    flags.DEFINE_string("remat", "none", "none, layer or block.")


def main(_):
    base = load_base(FLAGS.base)
    model = from_base(base, Compute("float32", FLAGS.remat))
    sides = {
        "two_streams": _side(base, model, infusion()),
        "one_stream": _side(base, model, infusion(frozen_maps=False)),
    }
    seconds = timing.alternate(sides, FLAGS.repeats)
    timing.report(
        "Infusion's step over a single stream's",
        seconds,
        ours="two_streams",
        theirs="one_stream",
        base=FLAGS.base,
        batch=FLAGS.batch,
        remat=FLAGS.remat,
    )


def _side(base, model, method):
    ids = jnp.asarray(tokenize(model.tokenizer, [PROMPT] * FLAGS.batch))
    marks = concept_mask(model.tokenizer, [PROMPT] * FLAGS.batch, [WORD])
    shape = (FLAGS.batch, *base.spec.latent_shape(*base.spec.size))
    mean, logvar = jax.random.normal(jax.random.key(0), (2, *shape))
    text = jnp.repeat(to_prompt(model, PROMPT).text, FLAGS.batch, axis=0)
    batch = Batch(
        Posterior(mean, logvar), ids, text=text, concept_mask=jnp.moveaxis(marks, 0, 1)
    )
    concepts = [Concept("", WORD, (), (), WORD)]
    theta = methods.init(method, jax.random.key(1), model.denoiser.params, concepts)
    tx = optax.adamw(1e-2)
    step = make_step(method, tx)
    held = {"state": create(theta, tx.init(theta), jax.random.key(2))}

    def once():
        held["state"], metrics = step(held["state"], model.denoiser, batch)
        jax.block_until_ready((held["state"], metrics))

    return once


if __name__ == "__main__":
    define_flags()
    app.run(main)
