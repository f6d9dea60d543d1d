"""Every method on the 12 bundled subjects and five of their pairs.

    python -m personax.evaluate --config configs/evaluate/emoji.py --workdir runs/emoji

The DreamBooth set's and Custom Diffusion's protocols at the size of the embedded base:
12 subjects (8 live, 4 objects) with 5 pictures each; 20 prompts per kind with places,
colours, styles, second objects and accessories (live subjects) or more places and
objects (objects); 2 pictures each: 480 per row. Five pairs, 8 prompts, 2 pictures: 80
per row of pairs. DDIM with 25 steps, guidance 3 and eta 0. The metrics use the embedded
CLIP and classifier, so values are not comparable with a paper's, although the order of
methods may be. About two and a half hours on two cores; results: docs/leaderboard.md.

The rows are configs/emoji_*.py, with the papers' settings adapted to a base of 32
pixels. All methods see 2,000 pictures, 250 steps of eight, half of them of the
regularisation set if there is one. The training prompt is "a photo of a {}" instead of
lists of templates; pictures are not mirrored, and Custom Diffusion has no size
augmentation.

| row | learning rate, here and published | other differences |
|---|---|---|
| custom_diffusion | 4e-4, 8e-5 | renders of the world for regularisation, weight 0.5 |
| class_diffusion | 4e-4, 2e-5 (release) | the same set, which it lacks; semantics 0.1 |
| dreambooth | 1e-4, 5e-6 | renders of the world for regularisation |
| oft | 1e-3, 6e-5 | the same |
| svdiff | 1e-2, 1e-3; of biases 1e-5, 1e-6 | the same |
| lora | 1e-3, 1e-4 | the same, which diffusers' example lacks, weight 0.5 |
| textual_inversion | 5e-3, 2e-3 | no weight decay |
| textual_inversion_multi | 3e-3 | two vectors, no weight decay |
| extended_textual_inversion | 4e-3, 5e-3 | no weight decay |
| neti | 3e-3, 8e-3 | no weight decay |
| prospect | 1e-2, 1e-4 | no weight decay |
| perfusion | 3e-2 and 6e-3, as published | 2,000 captions for C; no masks |
| infusion | 1e-2, as published | |
| concept_centric | 1e-4, 1e-5 | five pictures, not thousands; no average |

Joint training has the steps of both subjects. The concept-centric model reads no text
and has no regularisation set: in 125 steps it sees as many pictures of the subject as
methods with such a set. It is sampled together with the base, which reads the prompt,
with w = 1.5 and 2.5 (paper: 2.5 and 2.5); metrics of a model without the base do not
apply to that row.
"""

from ml_collections import ConfigDict

from configs.evaluate import common, prompts

METHODS = (
    "custom_diffusion",
    "class_diffusion",
    "dreambooth",
    "textual_inversion",
    "textual_inversion_multi",
    "extended_textual_inversion",
    "neti",
    "prospect",
    "lora",
    "oft",
    "svdiff",
    "perfusion",
    "infusion",
)


def get_config() -> ConfigDict:
    config = common.get_config()
    config.report.title = "Twelve subjects on the embedded base"
    config.images = config.report.images = 2
    config.prompts.live = prompts.EMOJI_LIVE
    config.prompts.object = prompts.EMOJI_OBJECT
    config.prompts.pair = prompts.EMOJI_PAIR
    config.pairs = (
        ("dog", "penguin"),
        ("cat", "backpack"),
        ("fox", "guitar"),
        ("panda", "teddy_bear"),
        ("rabbit", "sunflower"),
    )
    for name in METHODS:
        config.rows[name] = {"config": f"configs/emoji_{name}.py", "changes": {}}
    config.rows.concept_centric = {
        "config": "configs/emoji_people.py",
        "changes": {
            "stream": {"source": ""},
            "optimizer": {"learning_rate": 1e-4, "schedule": "constant", "warmup": 0},
            "ema_decay": 0.0,
            "batch": 8,
            "steps": 125,
        },
        "terms": ("concept@1.5:", "2.5:{}"),
    }
    # Vectorised convolution kernels become grouped convolutions, which are slow: a step
    # of DreamBooth takes 0.41 s per subject for four at a time, 0.29 s for one.
    for name in ("dreambooth", "svdiff", "concept_centric"):
        config.rows[name].together = 1
    config.pair_rows = ConfigDict(
        {
            "custom_diffusion_joint": {"of": "custom_diffusion", "way": "joint"},
            "custom_diffusion_merged": {"of": "custom_diffusion", "way": "merge"},
            "class_diffusion_joint": {"of": "class_diffusion", "way": "joint"},
            "textual_inversion_added": {"of": "textual_inversion", "way": "add"},
            "infusion_added": {"of": "infusion", "way": "add"},
        },
        sort_keys=False,
    )
    return config
