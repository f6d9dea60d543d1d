"""Which layers does fine-tuning change the most?

    python -m experiments.claims.rate_of_change \
        --config configs/claims/rate_of_change.py --out runs/claims/rate_of_change

Kumari et al. 2023 (Custom Diffusion), sec. 3.1 and fig. 2: after the whole UNet was
fine-tuned on a concept by the plain loss, |theta' - theta| / |theta| is largest, in the
mean over layers, in cross-attention, though it has 5 % of the parameters of Stable
Diffusion; self-attention and the rest change less. That is why Custom Diffusion trains
cross-attention alone.

DreamBooth without a regularisation set teaches four subjects; V* is a rare token. The
rate is that of each parameter tensor, and of each layer (which the paper says; a
module such as to_out, its kernel and bias together). The mean over a group counts each
the same. What is all 0 has no rate and is counted apart. points.csv has each group's
share of the parameters too.
AdamW moves all numbers by about as much in its first steps: what is small in the base,
many biases, then has a large rate.

The claim holds if the mean rate of cross-attention is the largest of the three for
every subject, per layer; per tensor is said beside it.

Estimated, from a step of Custom Diffusion with eight pictures in 0.14 s and twice that
for a step of DreamBooth with four, at five minutes on two idle cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.subjects = ("dog", "penguin", "backpack", "sunflower")
    config.changes = ConfigDict({"prior": {"source": ""}})  # in emoji_dreambooth
    config.steps = 250
    config.together = 1  # subjects that are taught at once
    return config
