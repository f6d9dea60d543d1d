"""Drift of the class "a dog" after training "<v1> dog" (Kumari et al. 2023).

    python -m experiments.claims.category_drift \
        --config configs/claims/category_drift.py --out runs/claims/category_drift

The claim (tables 1 and 7, fig. 18): trained with real regularisation pictures, Custom
Diffusion preserves the class without the token. Its KID to real pictures of the class
stays near the pretrained model's, and DreamBooth's is far above both (table 1: 20.96,
22.27 and 32.53, times 1000); Textual Inversion's equals the pretrained model's, since
only a word embedding changes.

Every method is trained on the subject and prompted with captions of scenes of its class
from the embedded world, one picture each, from the same seeds as the base. KID is in
the embedded CLIP's features (width 128, not comparable with the paper) to renders of
other such scenes in all of the world's styles. "same" is the cosine with the base's
picture of the same caption and seed, "leak" how much nearer to the subject's pictures
than that one the picture is. Other renders, the base, and the base from other seeds are
the reference levels. Errors are jackknife for KID and bootstrap over captions for the
rest, not over trainings. Infusion has no placeholder and changes the class word on
purpose.

The claim holds if Textual Inversion's pictures equal the base's (same 1, leak 0),
Custom Diffusion's KID is not above the base's by more than the errors, and DreamBooth's
is above Custom Diffusion's by more than the errors, while its "same" is lower.

With five of the 13 methods it took 7 minutes on one core.
"""

from ml_collections import ConfigDict

from configs.evaluate.emoji import METHODS


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.subjects = ("dog",)  # bundled subjects
    config.methods = METHODS  # configs/emoji_*.py
    config.steps = 200  # of each training; 0: those of the configs
    config.count = 64  # captions of the class, one picture each
    config.real = 200  # reference renders
    config.seed = 0  # the i-th caption's picture has the seed `seed` + i
    config.draw = ConfigDict(
        {"solver": "ddim", "steps": 25, "guidance": 3.0, "eta": 0.0, "batch": 8}
    )
    config.bootstrap = 200
    return config
