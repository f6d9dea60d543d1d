"""What is left of "a dog" when "<v1> dog" has been taught (Kumari et al. 2023).

    python -m experiments.claims.category_drift \
        --config configs/claims/category_drift.py --out runs/claims/category_drift

The claim (tables 1 and 7, fig. 18): trained with real regularisation pictures, Custom
Diffusion keeps the class without the token as it was. Its KID to real pictures of the
class stays near the pretrained model's, which DreamBooth's is far above (table 1:
20.96, 22.27 and 32.53, times 1000); Textual Inversion's is the pretrained model's own,
since nothing but a word's embedding changes.

Every method is taught the subject, then asked for its class by captions of scenes that
the emoji world has of it, one picture each, before and after by the same seeds. KID is
taken in the embedded CLIP's features against renders of other such scenes, in all of
the world's styles; the embedded CLIP is 128 wide, so no number compares with the
paper's. "same" is the cosine of the picture with the base's own of that caption and
seed, "leak" how much nearer to the subject's pictures it has moved. Other renders, the
base, and the base by other seeds are the floors. KID's errors are its jackknife's, the
others the bootstrap's over captions; none is over trainings. Infusion has no word of
its own and changes the class word on purpose, with the concept bound: it stands apart.

It holds if Textual Inversion's pictures are the base's own (same 1, leak 0), Custom
Diffusion's KID is not above the base's by more than the errors, and DreamBooth's is
above Custom Diffusion's by more than the errors, while its "same" is lower.

With five of the 13 methods it took 7 minutes on one core.
"""

from ml_collections import ConfigDict

from configs.evaluate.emoji import METHODS


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.subjects = ("dog",)  # bundled ones, taught at once
    config.methods = METHODS  # configs/emoji_*.py
    config.steps = 200  # of each training; 0: as the configs say
    config.count = 64  # captions of the class, one picture each
    config.real = 200  # renders that they are held against
    config.seed = 0  # the i-th caption's picture has the seed `seed` + i
    config.draw = ConfigDict(
        {"solver": "ddim", "steps": 25, "guidance": 3.0, "eta": 0.0, "batch": 8}
    )
    config.bootstrap = 200
    return config
