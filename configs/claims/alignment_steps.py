"""Image and text alignment over training steps (Kumari et al. 2023, fig. 20).

    python -m personax.evaluate --config configs/claims/alignment_steps.py \
        --workdir runs/claims/alignment_steps

The figure shows alignment with the subject's pictures and with the prompts against
training iterations. The claim tested is the paper's statement about fine-tuning: long
training overfits, so that pictures closer to the subject follow their prompts less.

Custom Diffusion, DreamBooth and Textual Inversion train two subjects with the settings
of configs/emoji_*.py, including their regularisation sets. Each row is a method at a
number of steps. Learning rates are constant and the data order does not depend on the
number of steps, so the rows of a method are points of one trajectory; each is trained
from the start. Alignments are cosines of the embedded CLIP. A step of Textual Inversion
has eight pictures of the subject, a step of the others four and four of the class. The
row "base", prompted with the class, is the level without a concept.

The claim holds if, for each method and subject and by more than the standard errors,
image alignment rises with steps and text alignment falls. Custom Diffusion has the
better trade-off if it has more text alignment than the others at equal image alignment.
"""

from ml_collections import ConfigDict

from configs.claims import pictures

METHODS = ("custom_diffusion", "dreambooth", "textual_inversion")
STEPS = (25, 50, 100, 200, 400)


def get_config() -> ConfigDict:
    rows = {
        f"{method}_{steps}": {
            "config": f"configs/emoji_{method}.py",
            "changes": {"steps": steps},
            "together": 1,  # subjects trained at once
        }
        for method in METHODS
        for steps in STEPS
    }
    return pictures.evaluation(("dog", "backpack"), rows)
