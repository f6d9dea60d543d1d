"""Sampling settings that the claims share."""

from ml_collections import ConfigDict

from configs.evaluate import common

# Places, colours and objects that no photograph of a bundled subject contains.
PROMPTS = (
    "a photo of a {}",
    "a photo of a {} at night",
    "a photo of a {} on a purple background",
    "a photo of a {} next to a castle",
    "a photo of a blue {}",
)


def get_config() -> ConfigDict:
    """The keys that experiments.claims.generation reads."""
    config = ConfigDict()
    config.prompts = PROMPTS
    config.images = 2  # of each prompt
    config.seed = 0  # the i-th prompt's pictures have the seed `seed` + i
    config.draw = ConfigDict(
        {"solver": "ddim", "steps": 25, "guidance": 3.0, "eta": 0.0, "batch": 8}
    )
    config.bootstrap = 200  # resamples for a standard error
    return config


def evaluation(subjects, rows, prompts=PROMPTS) -> ConfigDict:
    """A personax.evaluate protocol with the same settings, on bundled subjects."""
    config = common.get_config()
    config.subjects.names = tuple(subjects)
    config.prompts.live = config.prompts.object = tuple(prompts)
    config.images = config.report.images = 2
    config.judges.captions = ""  # no Fisher divergence
    config.rows = ConfigDict(rows, sort_keys=False)
    return config
