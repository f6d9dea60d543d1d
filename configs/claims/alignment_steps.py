"""Image and text alignment while a concept is taught.

    python -m experiments.claims.alignment_steps \
        --config configs/claims/alignment_steps.py --out runs/claims/alignment_steps

Kumari et al. 2023 (Custom Diffusion), fig. 20: alignment with the subject's pictures
and with the prompts against training iterations. Here it is held to what the paper says
of fine-tuning: long training overfits, pictures that are more like the subject's follow
their prompts less.

Custom Diffusion, DreamBooth and Textual Inversion teach two subjects by
configs/emoji_*.py, with their regularisation sets where they have one, and are drawn
along the way; both alignments are raw cosines by the embedded CLIP. Steps of Textual
Inversion have eight pictures of the subject, those of the others four and four of the
class. The base, asked for the class, is where no concept is taught.

That holds if, for each method and subject and by more than the errors in points.csv,
image alignment rises with steps and text alignment falls. Custom Diffusion's trade is
the better one if it has more text alignment than the others at the same image
alignment.

Estimated, from a step of eight pictures in 0.14 s, twice that for DreamBooth, and a
UNet evaluation of sixteen pictures in 0.2 s, at twelve minutes on two idle cores, of
which one is for compilations.
"""

from ml_collections import ConfigDict

from configs.claims import pictures


def get_config() -> ConfigDict:
    config = pictures.get_config()
    config.subjects = ("dog", "backpack")
    config.methods = ("custom_diffusion", "dreambooth", "textual_inversion")
    config.changes = ConfigDict()  # in configs/emoji_*.py
    config.steps = (25, 50, 100, 200, 400)
    return config
