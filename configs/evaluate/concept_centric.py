"""Faces with attributes (Cao et al. 2023, sec. 5.3) on Stable Diffusion 1.5.

    python -m personax.evaluate --config configs/evaluate/concept_centric.py \
        --config.subjects.source folders:DIR --workdir runs/concept_centric

Everyone learns the 70,000 pictures of FFHQ, prepared by `python -m personax.build
ffhq`; DIR holds a folder "face" with those that the drawn ones are compared with. Ten
attributes, 100 pictures each; DPM-Solver++ with 100 steps (the release: 25).
The baselines are asked "a photo of <ffhq> face, wearing glasses", or of a "face" alone
where no word trains; all of cross-attention is Custom Diffusion here. The settings are
the paper's for everyone: AdamW, 1e-5, a batch of 32, "until convergence", for which a
million steps stand.

The concept-centric model reads no text: it is drawn with beside the base, w = 2.5 each
with respect to the base without a prompt. The base is asked the whole prompt here, the
paper's for the attribute alone:

    python -m personax.sample --base DIR --model face=CONCEPT \
        --term "face@2.5:" --term "2.5:wearing glasses" --solver dpmpp_2m --steps 100

| published | trains | FID, faces | FID, animals | attributes | edges |
|---|---|---|---|---|---|
| Textual Inversion | < 1 K | 70.62 | 44.75 | .97 | .22 |
| DreamBooth | 859 M | 12.37 | 23.92 | .24 | .22 |
| Custom Diffusion | 44 M | 40.98 | 49.98 | .74 | .20 |
| OFT | 23 M | 27.50 | 38.74 | .77 | .21 |
| concept-centric | 859 M | 6.57 | 18.82 | .89 | .20 |

Cao et al., table 1. FID is of 50,000 pictures without a wish against all of FFHQ, or of
15,803 against AFHQv2, in torchmetrics' resizing. "attributes" is the share of pictures
in which a predictor, which the paper does not name, finds what was asked; "edges"
compares Canny maps of 200 pictures of CelebA-HQ with those of 5 pictures drawn along
each. benchmarks/concept_centric.py measures all of it on the embedded base.
"""

from ml_collections import ConfigDict

from configs.evaluate import prompts, sd15
from configs.evaluate.sd15 import row


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.report.title = "Faces with attributes"
    config.subjects.source = "folders:faces"
    config.subjects.names = ("face",)
    asked = tuple(f"a photo of {{}}, {attribute}" for attribute in prompts.FACE)
    config.prompts.live = config.prompts.object = asked
    config.images = 100
    config.draw.solver = "dpmpp_2m"
    config.draw.steps = 100
    config.rows = ConfigDict(
        {
            "textual_inversion": row("sd15_textual_inversion", **_taught(_WORD)),
            "dreambooth": row("sd15_dreambooth", **_taught(_CLASS)),
            "custom_diffusion": row("sd15_custom_diffusion_faces", **_taught(_WORD)),
            "oft": row("sd15_oft", **_taught(_CLASS)),
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


def _taught(concept: dict) -> dict:
    """What everyone's training has of the paper's: the pictures and the pace."""
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
