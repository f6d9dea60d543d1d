"""Time of one UNet forward pass, against torch diffusers.

python -m benchmarks.forward --model sd15
python -m benchmarks.forward --model emoji --batch 16
"""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import app, flags

from benchmarks import timing, torch_models
from personax.networks.compute import Compute
from personax.networks.unet import unet

FLAGS = flags.FLAGS
flags.DEFINE_enum("model", "sd15", ["sd15", "emoji"], "Which UNet.")
flags.DEFINE_integer("batch", 1, "Images.")
flags.DEFINE_integer("runs", 5, "Counted runs of each side.")
flags.DEFINE_string("attention", "auto", "personax's attention kernel.")
flags.DEFINE_string("convolution", "auto", "personax's convolution kernel.")


def main(argv):
    model, params, config = torch_models.unets(FLAGS.model)
    rng = np.random.default_rng(0)
    side, tokens = config.sample_size, 77 if FLAGS.model == "sd15" else 32
    x = rng.standard_normal((FLAGS.batch, side, side, config.in_channels), np.float32)
    text = rng.standard_normal(
        (FLAGS.batch, tokens, config.cross_attention_dim), np.float32
    )
    t = np.full(FLAGS.batch, 500.0, np.float32)
    theirs = torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(t), torch.tensor(text)
    ours = params, *map(jnp.asarray, (x, t, text))
    compute = Compute(attention=FLAGS.attention, convolution=FLAGS.convolution)
    run = jax.jit(lambda p, *a: unet(p, config, *a, compute=compute)[0])
    run = run.lower(*ours).compile()

    def torch_side():
        with torch.inference_mode():
            return model(*theirs).sample.numpy().transpose(0, 2, 3, 1)

    def personax_side():
        return np.asarray(run(*ours))

    error = float(np.abs(torch_side() - personax_side()).max())
    sides = {"torch": torch_side, "personax": personax_side}
    timing.report(
        "forward",
        timing.alternate(sides, FLAGS.runs),
        model=FLAGS.model,
        batch=FLAGS.batch,
        max_abs_error=error,
        attention=FLAGS.attention,
        convolution=FLAGS.convolution,
    )


if __name__ == "__main__":
    app.run(main)
