"""Compression of a concept (Kumari et al. 2023, app. C, fig. 15).

    python -m experiments.claims.compression --config configs/claims/compression.py \
        --out runs/claims/compression

Keeping the leading singular values of the changes to keys and values, up to 60 % of
their sum, makes a concept about five times smaller with similar scores; 1 % hurts image
alignment.

Custom Diffusion trains two subjects; `personax.compress` keeps a share of the sum of
each kernel's singular values, and its result is loaded, sampled and scored by the
embedded CLIP, as raw cosines. A share of 1 is the original concept. Sizes are those of
the files, including V*. Text features of the embedded base have width 128, which limits
the ranks, and two factors of full rank are larger than the kernel.

The claim holds if, for each subject, image and text alignment at 0.6 are within the
standard errors of those of the whole concept, while the file is several times smaller,
and if image alignment at 0.01, ranks of about 1, is lower by more than its error.
"""

from ml_collections import ConfigDict

from configs.claims import pictures


def get_config() -> ConfigDict:
    config = pictures.get_config()
    config.subjects = ("dog", "backpack")
    config.changes = ConfigDict({"steps": 250})  # in emoji_custom_diffusion
    config.shares = (0.01, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    return config
