"""Faces with attributes (Cao et al. 2023, sec. 5.3) on Stable Diffusion 1.5.

    python -m personax.evaluate --config configs/evaluate/concept_centric.py \
        --config.subjects.source folders:DIR --workdir runs/concept_centric

All methods train on the 70,000 pictures of FFHQ, prepared by `python -m personax.build
ffhq`; DIR has a folder "face" with the reference pictures. Ten attributes with 100
pictures each; DPM-Solver++ with 100 steps (the release: 25). Prompts of the baselines
are "a photo of <ffhq> face, wearing glasses", or with "face" only for methods without
a placeholder; the whole cross-attention is trained by Custom Diffusion here. All
methods have the paper's settings: AdamW, 1e-5, a batch of 32, "until convergence",
here a million steps.

The concept-centric model reads no text: it is sampled together with the base, w = 2.5
each relative to the base's unconditional prediction. The base's term has the whole
prompt here; in the paper it has the attribute only:

    python -m personax.sample --base DIR --model face=CONCEPT \
        --term "face@2.5:" --term "2.5:wearing glasses" --solver dpmpp_2m --steps 100

| published | trains | FID, faces | FID, animals | attributes | edges |
|---|---|---|---|---|---|
| Textual Inversion | < 1 K | 70.62 | 44.75 | .97 | .22 |
| DreamBooth | 859 M | 12.37 | 23.92 | .24 | .22 |
| Custom Diffusion | 44 M | 40.98 | 49.98 | .74 | .20 |
| OFT | 23 M | 27.50 | 38.74 | .77 | .21 |
| concept-centric | 859 M | 6.57 | 18.82 | .89 | .20 |

Cao et al., table 1. FID is of 50,000 unconditional pictures against all of FFHQ, or of
15,803 against AFHQv2, with torchmetrics' resizing. "attributes" is the share of
pictures in which a predictor, which the paper does not name, finds the attribute;
"edges" compares Canny maps of 200 pictures of CelebA-HQ with those of 5 pictures
generated from each. benchmarks/concept_centric.py measures all of it on the embedded
base.
"""

from ml_collections import ConfigDict

from configs.evaluate import prompts, sd15
from configs.evaluate.sd15 import row


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.report.title = "Faces with attributes"
    config.subjects.source = "folders:faces"
    config.subjects.names = ("face",)
    templates = tuple(f"a photo of {{}}, {attribute}" for attribute in prompts.FACE)
    config.prompts.live = config.prompts.object = templates
    config.images = 100
    config.draw.solver = "dpmpp_2m"
    config.draw.steps = 100
    config.rows = ConfigDict(
        {
            "textual_inversion": row("sd15_textual_inversion", **_changes(_WORD)),
            "dreambooth": row("sd15_dreambooth", **_changes(_CLASS)),
            "custom_diffusion": row("sd15_custom_diffusion_faces", **_changes(_WORD)),
            "oft": row("sd15_oft", **_changes(_CLASS)),
            "concept_centric": {
                **row("sd15_ffhq"),
                "terms": ("concept@2.5:", "2.5:{}"),
            },
        },
        sort_keys=False,
    )
    return config


_WORD = {"placeholder": "<ffhq>", "phrase": "{placeholder} {class_word}"}
_CLASS = {"placeholder": "", "phrase": "{class_word}"}


def _changes(concept: dict) -> dict:
    """The paper's training settings, common to all methods."""
    return {
        "concept": {**concept, "prompt": "a photo of {}", "initial": ""},
        "data": {"augment": "none", "flip": False},
        "stream": {"source": "tfds:ffhq", "captions": "prompt", "flip": True},
        "prior": {"source": ""},
        "optimizer": {"learning_rate": 1e-5, "scale_by_batch": False},
        "batch": 32,
        "accumulate": 1,
        "steps": 1_000_000,
    }
