"""A concept's words drift away from their class, and lose its attention.

    python -m experiments.claims.class_drift --config configs/claims/class_drift.py \
        --out runs/claims/class_drift

Huang et al. 2024 (ClassDiffusion), sec. 3, fig. 3 and app. D: while Custom Diffusion is
fine-tuned, its phrase "V* dog" moves away from "dog" in the text encoder's space, from
rank 26 among 71 phrases to 67, and the class word's cross-attention inside the object
falls; with the semantic preservation loss, weight 1, the rank is 36.

Both methods teach three subjects, without a regularisation set as in the release. Along
each training, and before it: the phrase's rank among "a happy dog" and the others by
cosine and by t-SNE, its cosine distance, and the class word's mean probability inside
the region where the base's own map, at the same prompt and seed, has more than half of
its maximum. The paper gives no formula for that, no perplexity and no seed. Before a
training the word V* is a rare token, which stands beside the class word already; the
line of the base is "a photo of a dog" without it.

The claim holds if, for every subject, Custom Diffusion's ranks rise and its activation
falls from before the training to its end, and if ClassDiffusion ends at lower ranks and
a higher activation than Custom Diffusion. Errors are of the subjects' mean, and
subjects start far apart. A fall from the base to the untaught phrase is none of
training's.

Estimated, from a step of eight pictures in 0.14 s (half of it for the four here), a
UNet evaluation of sixteen pictures in 0.2 s and a t-SNE of 73 points in 1 s, at
ten minutes on two idle cores with an empty cache of compilations.
--config.rates 2e-4,4e-4 adds learning rates.
"""

from ml_collections import ConfigDict

METHODS = {"custom_diffusion": {}, "class_diffusion": {"semantic_weight": 1.0}}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.subjects = ("dog", "penguin", "backpack")
    config.methods = ConfigDict(METHODS, sort_keys=False)  # {method: its arguments}
    config.changes = ConfigDict({"prior": {"source": ""}})  # in configs/emoji_*.py
    config.steps = (0, 50, 100, 200, 400)
    config.rates = (4e-4,)
    config.tsne_seeds = 5
    # The maps: {} is the subject.
    config.prompts = (
        "a photo of a {}",
        "a photo of a {} at night",
        "a photo of a {} on a purple background",
        "a photo of a {} next to a castle",
    )
    config.look = ConfigDict({"images": 4, "steps": 15, "guidance": 3.0, "seed": 1})
    return config
