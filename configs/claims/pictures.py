"""Which pictures the claims draw of a subject, where they draw some."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    # None of the subjects was photographed in these places or beside these things.
    config.prompts = (
        "a photo of a {}",
        "a photo of a {} at night",
        "a photo of a {} on a purple background",
        "a photo of a {} next to a castle",
        "a photo of a blue {}",
    )
    config.images = 2  # of each prompt
    config.seed = 0  # the i-th prompt's pictures have the seed `seed` + i
    config.draw = ConfigDict(
        {"solver": "ddim", "steps": 25, "guidance": 3.0, "eta": 0.0, "batch": 8}
    )
    config.bootstrap = 200  # resamplings for a standard error
    return config
