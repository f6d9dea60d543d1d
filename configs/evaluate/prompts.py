"""Prompts for sets that are published without any.

{} stands for the subject, {0} and {1} for those of a pair.
"""

# The embedded world, in the words and order of its captions (data/emoji/world.py).
# No training picture of the 12 subjects has these places, background colours or second
# objects; no subject has these colours or, except for the glossy rabbit, these styles.
_EMOJI = (
    "a photo of a {}",
    "a photo of a {} at night",
    "a photo of a {} in the desert",
    "a photo of a {} under the sea",
    "a photo of a {} with a mountain in the background",
    "a photo of a {} on a purple background",
    "a photo of a {} on a red background",
    "a photo of a purple {}",
    "a photo of a blue {}",
    "a photo of a {} in flat style",
    "a photo of a {} in glossy style",
    "a photo of a {} next to a castle",
    "a photo of a {} next to a rocket",
    "a photo of a {} next to a strawberry in the desert",
    "a photo of a purple {} at night",
)
EMOJI_LIVE = (
    *_EMOJI,
    "a photo of a {} wearing a top hat",
    "a photo of a {} wearing a crown",
    "a photo of a {} wearing sunglasses",
    "a photo of a {} wearing a headphone under the sea",
    "a photo of a {} wearing sunglasses at night",
)
EMOJI_OBJECT = (
    *_EMOJI,
    "a photo of a {} on a green background",
    "a photo of a {} on a pink background",
    "a photo of a {} next to a lion",
    "a photo of a {} next to a mushroom at night",
    "a far away photo of a {} in the desert",
)
EMOJI_PAIR = (
    "a photo of a {0} next to a {1}",
    "a photo of a {0} next to a {1} at night",
    "a photo of a {0} next to a {1} in the desert",
    "a photo of a {0} next to a {1} under the sea",
    "a photo of a {0} next to a {1} with a mountain in the background",
    "a photo of a {0} next to a {1} on a purple background",
    "a photo of a {0} next to a {1} on a red background",
    "a photo of a {0} next to a {1} on a green background",
)

# Two photographed subjects, with DreamBooth's places. ClassDiffusion's prompts for
# pairs are not published.
PHOTO_PAIR = (
    "a photo of a {0} and a {1}",
    "a photo of a {0} and a {1} in the jungle",
    "a photo of a {0} and a {1} in the snow",
    "a photo of a {0} and a {1} on the beach",
    "a photo of a {0} and a {1} on a cobblestone street",
    "a photo of a {0} and a {1} with a mountain in the background",
)

# Attributes of faces, Cao et al. 2023; "smilling" is as published.
FACE = (
    "wearing glasses",
    "wearing sunglasses",
    "wearing hat",
    "smilling",
    "male",
    "female",
    "white people",
    "black people",
    "asian people",
    "square face",
)
