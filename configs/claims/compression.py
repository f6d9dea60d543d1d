"""How far can a concept be compressed?

    python -m experiments.claims.compression --config configs/claims/compression.py \
        --out runs/claims/compression

Kumari et al. 2023 (Custom Diffusion), app. C, fig. 15: of what training adds to keys
and values, the leading singular values whose sum is 60 % of the sum of all make a
concept about five times smaller, with similar scores; 1 % hurts image alignment.

Custom Diffusion teaches two subjects; `personax.compress` keeps a share of the singular
values' sum of each kernel, and what it writes is loaded, drawn and judged by the
embedded CLIP, as raw cosines. A share of 1 is the concept as it was taught. Sizes are
those of the files, V* among them; the embedded base's texts are 128 wide, so ranks end
there, and two factors of full rank are larger than what they stand for.

The claim holds if, for each subject, image and text alignment at 0.6 are within its own
errors in points.csv of those of the whole concept, while the file is several times
smaller, and if image alignment at 0.01, ranks of about 1, is lower by more than them.

Estimated, from a step of eight pictures in 0.14 s, a UNet evaluation of sixteen
pictures in 0.2 s and 10 s for each call of the command, at six minutes on two idle
cores.
"""

from ml_collections import ConfigDict

from configs.claims import pictures


def get_config() -> ConfigDict:
    config = pictures.get_config()
    config.subjects = ("dog", "backpack")
    config.changes = ConfigDict({"steps": 250})  # in emoji_custom_diffusion
    config.shares = (0.01, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
    config.together = 2  # subjects that are taught at once
    return config
