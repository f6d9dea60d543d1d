"""Two concepts in one picture, by Custom Diffusion (Kumari et al. 2023).

    python -m experiments.claims.two_concepts \
        --config configs/claims/two_concepts.py --out runs/claims/two_concepts

The claims: joint training and closed-form merging draw two concepts in one picture,
while Textual Inversion's two tokens fail (sec. 4.2, table 1); where the pretrained
model's attention maps of two words overlap, as for a cat and a dog, so do those of the
customised model, and such pairs remain difficult (fig. 19). In sequential training the
second concept makes the model forget the first.

Each pair is trained jointly (twice the steps), merged from two separate trainings,
trained sequentially, and trained as two tokens of Textual Inversion; then sampled
together and alone with the same prompts and seeds. The overlap of two words is that of
their cross-attention maps (diffusion/attention_maps.py; a phrase such as "<v1> dog" has
the mean map of its tokens): the shared part of the normalised maps ("overlap") and the
intersection over union of the regions above half of the maximum ("iou");
"overlap_of_classes" is the former for the class words alone, which Textual Inversion's
prompts do not contain. Image alignment is CLIP-I with either subject's pictures.
"trained alone" is either subject without the other. Errors are bootstrap over prompts,
not over trainings.

The claim holds if joint and merged have an overlap near the base's (within twice the
errors) and more of both subjects than the two tokens, by more than the errors, and if
the first subject alone loses image alignment against "trained alone" by sequential
training and not by the other two, by more than the errors. Pairs whose words the base
separates should have less overlap: --config.pairs accepts any bundled subjects.

With two pictures of each prompt, --config.images 2, it took 7 minutes on one core.
"""

from ml_collections import ConfigDict

from configs.evaluate.prompts import EMOJI_LIVE, EMOJI_PAIR


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.pairs = (("dog", "cat"),)  # of bundled subjects
    config.steps = 250  # for each concept
    config.together = EMOJI_PAIR  # prompts with {0} and {1}
    config.prompts = EMOJI_LIVE[:8]  # with one alone
    config.images = 4  # of each prompt
    config.seed = 0  # the i-th prompt's pictures have the seed `seed` + i
    config.draw = ConfigDict(
        {"solver": "ddim", "steps": 25, "guidance": 3.0, "eta": 0.0, "batch": 8}
    )
    config.bootstrap = 200
    return config
