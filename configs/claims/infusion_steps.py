"""Infusion overfits less than methods that change the base (Zeng et al. 2024).

    python -m experiments.claims.infusion_steps \
        --config configs/claims/infusion_steps.py --out runs/claims/infusion_steps

The claim (sec. 5.2, fig. 9 to 11): with every method tuned to learn the concept in the
same number of steps and trained beyond that, the other methods move further and further
from the base, both on captions of other things (latent Fisher divergence, def. 3.1,
concept-agnostic overfitting) and in the appearance of the class (2-Wasserstein
distance, def. 3.2, concept-specific overfitting); Infusion moves least at equal
quality.

Each method's learning rates, those of configs/emoji_*.py times each of `factors`, are
tried up to `reference` steps. The rate with the best image alignment there is trained
through `stops`. Measured at every stop: CLIP-I with the subject; W2 of the sampled
(scaled) latents from as many of the base's, from other seeds at the same prompts with
the class word; and the Fisher divergence on the world's captions without the class word
("others"), as in the paper, and on captions with it ("class"). Infusion keeps the base
as a frozen stream, whose divergence is measured as well; the command fails if it is not
exactly 0. The customised stream changes captions of the class on purpose. Errors are
bootstrap over prompts, for Fisher over captions; not over trainings.

The claim holds if Infusion's divergence on others is 0 up to rounding at all stops,
like that of Textual Inversion, which changes no weight, while that of methods that
change weights grows past the reference; if Infusion's W2 there is not above the others'
by more than the errors; and if its CLIP-I at the reference is not below the others' by
more than the errors. The base's W2 from itself with other seeds is the floor. A best
factor at an edge of the grid means that the grid was too small: see the points of kind
"rate".
"""

from ml_collections import ConfigDict

from configs.evaluate.prompts import EMOJI_LIVE


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.subjects = ("dog",)  # bundled subjects
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
