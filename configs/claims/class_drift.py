"""Semantic drift of a concept's phrase and attention (Huang et al. 2024).

    python -m experiments.claims.class_drift --config configs/claims/class_drift.py \
        --out runs/claims/class_drift

ClassDiffusion, sec. 3, fig. 3 and app. D: while Custom Diffusion is fine-tuned, its
phrase "V* dog" moves away from "dog" in the text encoder's space, from rank 26 among 71
phrases to 67, and the class word's cross-attention inside the object falls; with the
semantic preservation loss, weight 1, the rank is 36.

Both methods train three subjects, without a regularisation set as in the release.
Measured before and during training: the phrase's rank among "a happy dog" and the
others by cosine and by t-SNE, its cosine distance, and the class word's mean
probability inside the region where the base's map, at the same prompt and seed, exceeds
half of its maximum. The paper gives no formula for the latter, no perplexity and no
seed. Before training V* is a rare token next to the class word; the base's level is "a
photo of a dog" without it.

The claim holds if, for every subject, Custom Diffusion's ranks rise and its activation
falls from before the training to its end, and if ClassDiffusion ends at lower ranks and
a higher activation than Custom Diffusion. Errors are of the mean over subjects, which
start far apart. A drop from the base to the untrained phrase is not due to training.

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
    # Prompts of the attention maps; {} is the subject.
    config.prompts = (
        "a photo of a {}",
        "a photo of a {} at night",
        "a photo of a {} on a purple background",
        "a photo of a {} next to a castle",
    )
    config.look = ConfigDict({"images": 4, "steps": 15, "guidance": 3.0, "seed": 1})
    return config
