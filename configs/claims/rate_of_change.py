"""Which layers fine-tuning changes most (Kumari et al. 2023, sec. 3.1, fig. 2).

    python -m personax.evaluate --config configs/claims/rate_of_change.py \
        --workdir runs/claims/rate_of_change

The paper fine-tunes the whole UNet on a concept with the plain loss and reports
|theta' - theta| / |theta|. Its mean over layers is largest in cross-attention, which
has 5 % of Stable Diffusion's parameters; self-attention and the rest change less. This
is why Custom Diffusion trains cross-attention alone.

DreamBooth without a regularisation set trains four subjects; V* is a rare token. The
columns "change_cross", "change_self" and "change_rest" are the mean rates of each kind
of layer, the kernel and bias of a layer taken together, every layer with equal weight.
The first steps of AdamW move all parameters by about the same amount, so parameters
that are small in the base, many biases among them, have large rates.

The claim holds if the mean rate of cross-attention is the largest of the three for
every subject.
"""

from ml_collections import ConfigDict

from configs.claims import pictures


def get_config() -> ConfigDict:
    rows = {
        "dreambooth": {
            "config": "configs/emoji_dreambooth.py",
            "changes": {"prior": {"source": ""}, "steps": 250},
        }
    }
    names = ("dog", "penguin", "backpack", "sunflower")
    config = pictures.evaluation(names, rows, ("a photo of a {}",))
    config.images = config.report.images = 1  # the pictures are not scored
    config.judges.clip = config.judges.classifier = ""
    config.together = 1  # subjects trained at once
    return config
