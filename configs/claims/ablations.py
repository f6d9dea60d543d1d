"""Which parts of Custom Diffusion matter (Kumari et al. 2023, tables 3 and 5).

    python -m personax.evaluate --config configs/claims/ablations.py \
        --workdir runs/claims/ablations

Tables 3 and 5 of the paper are means over ten and nine sets: text alignment, image
alignment and KID of the class times 1000.

| | text | image | KID |
|---|---|---|---|
| Custom Diffusion | .795 | .775 | 20.96 |
| without augmentation | .800 | .736 | 20.67 |
| without regularisation | .799 | .756 | 32.64 |
| generated regularisation | .791 | .768 | 34.70 |
| (table 5) Custom Diffusion | .795 | .774 | 22.43 |
| V* starts from the vocabulary's mean and deviation | .805 | .765 | 22.06 |
| V* stays its rare token | .816 | .733 | 21.86 |

Differences from the paper: renders of the embedded world replace retrieved pictures of
the class. Initialising V* from the class word is Textual Inversion's choice and has no
number in the paper. Alignments are cosines of the embedded CLIP. The world has no
Inception network, so the columns "same" and "leak" replace KID: the cosine between the
class drawn by the model and by the base from the same seeds, and how much nearer the
former is to the subject. Regularisation sets have 50 pictures instead of 200, because
generated ones have to be drawn first. All rows train for the same number of steps.

The claim holds if, for each subject and by more than its standard errors, augmentation
raises image alignment and both no and generated regularisation change the class more
(less "same", more "leak") than renders do; for table 5, if a frozen V* has the lowest
image and the highest text alignment. Two subjects and ten pictures a row resolve large
differences only.
"""

from ml_collections import ConfigDict

from configs.claims import pictures

# {row: changes to emoji_custom_diffusion beside SHARED}
ABLATIONS = {
    "custom_diffusion": {},
    "no_augmentation": {"data": {"augment": "none", "words": ""}},
    "no_regularisation": {"prior": {"source": ""}},
    "generated_regularisation": {"prior": {"source": "generated"}},
    "class_word_init": {"concept": {"initial": ""}},
    "vocabulary_init": {"concept": {"initial": "vocabulary"}},
    "frozen_token": {"method_args": {"words": False}},
}
# "photo of a {}", since the world's captions have "a far away photo of a dog".
SHARED = {
    "concept": {"prompt": "photo of a {}"},
    "data": {"augment": "paper", "words": "prefix"},
    "prior": {"source": "world", "count": 50},
    "steps": 250,
}


def get_config() -> ConfigDict:
    rows = {
        name: {"config": "configs/emoji_custom_diffusion.py", "changes": _merged(own)}
        for name, own in ABLATIONS.items()
    }
    config = pictures.evaluation(("dog", "backpack"), rows)
    config.together = 2  # subjects trained at once
    return config


def _merged(own: dict) -> dict:
    changes = ConfigDict(SHARED)
    with changes.unlocked():
        changes.update(own)
    return changes.to_dict()
