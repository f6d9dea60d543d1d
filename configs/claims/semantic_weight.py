"""Weight of the semantic preservation loss (Huang et al. 2024, ClassDiffusion, fig. 8).

    python -m personax.evaluate --config configs/claims/semantic_weight.py \
        --workdir runs/claims/semantic_weight

Fig. 8 draws "a photo of a dog wearing a headphone" from one seed. At small weights (0.1
and 0.01) the headphone fades by 750 training steps and is gone by 1,500; at 100 it
stays. Over the DreamBooth set, CLIP-T rises from .299 to .301 and DINO-I falls from
.677 to .661 as the weight grows from 0.01 to 100.

Two live subjects are trained with each weight (0 is Custom Diffusion), without a
regularisation set as in the release; each row is a weight at a number of steps, trained
from the start. Columns: image and text alignment by the embedded CLIP, and the share of
pictures that show the prompt's attributes, two accessories among them, by the
classifier of renders.

The claim holds if, for each subject and at the most steps, text alignment and the share
of attributes are larger for the largest weight than for 0 and 0.01 by more than the
standard errors, and image alignment smaller; and if small weights lose with steps what
large weights keep.
"""

from ml_collections import ConfigDict

from configs.claims import pictures

PROMPTS = (
    "a photo of a {} wearing a headphone",
    "a photo of a {} wearing a top hat",
    "a photo of a {} at night",
    "a photo of a {} on a purple background",
    "a photo of a blue {}",
)
WEIGHTS = {"0": 0.0, "1e-2": 0.01, "1": 1.0, "100": 100.0}  # by their names in rows
STEPS = (100, 200, 400)


def get_config() -> ConfigDict:
    rows = {
        f"weight_{name}_steps_{steps}": {
            "config": "configs/emoji_class_diffusion.py",
            "changes": {
                "prior": {"source": ""},
                "method_args": {"semantic_weight": weight},
                "steps": steps,
            },
            "together": 1,  # subjects trained at once
        }
        for name, weight in WEIGHTS.items()
        for steps in STEPS
    }
    return pictures.evaluation(("dog", "penguin"), rows, PROMPTS)
