"""Infusion overfits less than methods that change the base (Zeng et al. 2024).

    python -m experiments.claims.infusion_steps \
        --config configs/claims/infusion_steps.py --out runs/claims/infusion_steps

The claim (sec. 5.2, fig. 9 to 11): of methods that were tuned to learn the concept in
equally many steps, and are trained on beyond, the others move ever further from the
base, both where captions speak of something else (latent Fisher divergence, def. 3.1,
concept-agnostic overfitting) and in what the class looks like (2-Wasserstein distance,
def. 3.2, concept-specific overfitting); Infusion moves least at a like quality.

Each method's learning rates, those of configs/emoji_*.py times each of `factors`, are
tried up to `reference` steps. The rate of the best image alignment there is trained on
through `stops`. Measured at every stop: CLIP-I with the subject; W2 of the latents, as
the sampler leaves them (scaled), from as many of the base's by other seeds at the same
prompts with the class word; and the Fisher divergence on the world's captions without
the class word ("others"), as the paper has it, and on captions that hold it ("class").
Infusion keeps the base beside its customised stream: that frozen stream's divergence is
measured as well, and the command fails where it is not exactly 0. The customised
stream's on the class's captions, which is what it changes on purpose, is not 0. Errors
are of the bootstrap over prompts, of Fisher over captions; not over trainings.

It holds if Infusion's divergence on others is 0 but for rounding at all stops, as is
Textual Inversion's, which changes no weight, while that of methods that change weights
grows past the reference; if Infusion's W2 is there not above the others' by more than
the errors; and if its CLIP-I at the reference is not below the others' by more than the
errors. The base's W2 from itself by other seeds is the floor. A best factor at an edge
of the grid means that the grid was too small: see the points of kind "rate".

From one step and one picture on idle cores (benchmarks/README.md: 0.15 s a step of
eight, 2.4 s for eight pictures) and about 12 s for the preparation of each of 20
trainings the defaults should take about 15 minutes on two; that sum has not been timed.
"""

from ml_collections import ConfigDict

from configs.evaluate.prompts import EMOJI_LIVE


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.subjects = ("dog",)  # bundled ones
    config.methods = (
        "lora",
        "custom_diffusion",
        "textual_inversion",
        "perfusion",
        "infusion",
    )
    config.factors = (1.0, 2.0, 4.0)
    config.reference = 100  # steps; one of the stops
    config.stops = (50, 100, 200, 400)
    config.prompts = EMOJI_LIVE[:6]
    config.images = 4  # of each prompt
    config.seed = 0  # the i-th prompt's pictures have the seed `seed` + i
    config.draw = ConfigDict(
        {"solver": "ddim", "steps": 25, "guidance": 3.0, "eta": 0.0, "batch": 8}
    )
    config.captions = 128  # for each Fisher divergence
    config.bootstrap = 200
    return config
