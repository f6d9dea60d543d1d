"""Overfitting on four peaks (Zeng et al. 2024, fig. 4 to 6): a line below one of them.

    python -m experiments.toy --config configs/toy/four_peaks.py --out runs/toy_four

47 s with compilation on two shared CPU cores; 45 s of processor time. The folder has
curves.png, samples.png and field.png with a CSV for each.

Every condition ("word") has one peak. V* starts as "top_left" and is trained on eight
examples of a line below it, for 2,000 steps, ten times the step at which the learning
rates are chosen. The methods differ only in the parameters that they train; there is no
prior and no attention. After the last step, the first three columns for the other
words, W2 for V*, one seed:

                         Fisher   pull   in own peaks   W2 to class   W2 to line
    exact draws                             .988           1.01          .04
    pretrained            0       0         .989            .03         1.02
    DreamBooth             .132    .262     .816            .99          .17
    Custom Diffusion       .043    .131     .933           1.00          .26
    Textual Inversion     0       0         .989            .99          .33
    Infusion              0       0         .989            .99          .27

Reproduced: concept-agnostic overfitting where a method trains weights that other words
use: their field turns toward the line and their samples leave their peaks. Zeros are
zero by construction. Concept-specific overfitting: DreamBooth's samples of V* are
closer to an example (.048) than draws of the line (.075). Not reproduced: the peaks do
not shrink, their clusters are slightly wider (1.12 of the true width; 1.04 before); W2
to the class is the line's own distance and does not show the collapse; and the residual
overfits like the others: from step 200 to 2,000 its W2 to the line rises from .18 to
.27 and its loss on held-out draws from .203 to .225 (Custom Diffusion's .189 to .260,
.203 to .222).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    # {condition: the centres (x, y) of its peaks}
    config.conditions = ConfigDict(
        {
            "top_left": ((-1.5, 1.5),),
            "top_right": ((1.5, 1.5),),
            "bottom_left": ((-1.5, -1.5),),
            "bottom_right": ((1.5, -1.5),),
        }
    )
    config.scale = 0.25  # every peak's standard deviation
    # The concept V*: lines below some of the peaks of a class.
    config.lesson = ConfigDict(
        {
            "class_word": "top_left",
            "places": (0,),  # indices of its peaks
            "drop": 1.0,  # distance below
            "line": (0.3, 0.03),  # standard deviations along x and y
            "shots": 8,  # examples of each line
        }
    )
    config.network = ConfigDict({"width": 64, "layers": 3, "embedding": 16})
    config.pretraining = ConfigDict(
        {"steps": 3000, "batch": 256, "learning_rate": 4e-3}
    )
    config.teaching = ConfigDict(
        {
            "methods": (
                "dreambooth",
                "custom_diffusion",
                "textual_inversion",
                "infusion",
            ),
            # Each method uses the rate that is best at the reference step.
            "rates": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
            "reference_step": 200,
            "steps": (0, 25, 50, 100, 200, 400, 1000, 2000),
            "batch": 64,
        }
    )
    config.measures = ConfigDict(
        {
            "points": 1024,  # of each condition, for the fields
            "samples": 500,  # of V*
            "samples_of_others": 250,  # of each other condition
            "sampler_steps": 32,
        }
    )
    config.plots = ConfigDict({"condition": "top_right", "time": 0.4})
    return config
