"""Prompt templates with {} for the concept: the papers' sets, a file, or one."""

from personax.core.files import expand, read_lines
from personax.core.text import compose, spans

# "{}" stands for the concept's words, such as "<v1> dog".
TEMPLATES = {
    # Textual Inversion (Gal et al. 2022) for objects: CLIP's ImageNet prompts.
    "object": (
        "a photo of a {}",
        "a rendering of a {}",
        "a cropped photo of the {}",
        "the photo of a {}",
        "a photo of a clean {}",
        "a photo of a dirty {}",
        "a dark photo of the {}",
        "a photo of my {}",
        "a photo of the cool {}",
        "a close-up photo of a {}",
        "a bright photo of the {}",
        "a cropped photo of a {}",
        "a photo of the {}",
        "a good photo of the {}",
        "a photo of one {}",
        "a close-up photo of the {}",
        "a rendition of the {}",
        "a photo of the clean {}",
        "a rendition of a {}",
        "a photo of a nice {}",
        "a good photo of a {}",
        "a photo of the nice {}",
        "a photo of the small {}",
        "a photo of the weird {}",
        "a photo of the large {}",
        "a photo of a cool {}",
        "a photo of a small {}",
    ),
    # Textual Inversion for styles; two are in it twice, and so twice as likely.
    "style": (
        "a painting in the style of {}",
        "a rendering in the style of {}",
        "a cropped painting in the style of {}",
        "the painting in the style of {}",
        "a clean painting in the style of {}",
        "a dirty painting in the style of {}",
        "a dark painting in the style of {}",
        "a picture in the style of {}",
        "a cool painting in the style of {}",
        "a close-up painting in the style of {}",
        "a bright painting in the style of {}",
        "a cropped painting in the style of {}",
        "a good painting in the style of {}",
        "a close-up painting in the style of {}",
        "a rendition in the style of {}",
        "a nice painting in the style of {}",
        "a small painting in the style of {}",
        "a weird painting in the style of {}",
        "a large painting in the style of {}",
    ),
    # Custom Diffusion (Kumari et al. 2023): an object's and a style's only prompt.
    "photo": ("photo of a {}",),
    "painting": ("painting in the style of {}",),
    # Infusion (Zeng et al. 2024), its released list.
    "infusion": (
        "a photo of a {}",
        "a good photo of a {}",
        "the photo of a {}",
        "a good photo of the {}",
        "image of a {}",
        "image of the {}",
        "A photograph of {}",
        "A {} shown in a photo",
        "A photo of {}",
        "A {}",
        "{}",
    ),
}


def fill(prompt: str, phrase: str) -> tuple[str, ...]:
    """The prompts of a template, each with `phrase` in place of "{}".

    `prompt` is the name of one of `TEMPLATES`, the path of a .txt file with one prompt
    per line, or a prompt itself. Raises FileNotFoundError for a missing file, and
    ValueError for one without a prompt or a prompt that does not hold the phrase as
    whole words.

    >>> fill("photo", "<v1> dog")
    ('photo of a <v1> dog',)
    """
    filled = tuple(each.replace("{}", phrase) for each in _prompts(prompt))
    for each in filled:
        if _holds(each, phrase):
            continue
        hint = 'write "{}" in its place'
        if " " not in each:  # more likely a mistyped set than a prompt
            hint += f", or choose a set: {', '.join(TEMPLATES)}"
        raise ValueError(
            f"The prompt {each!r} does not hold the phrase {phrase!r}; {hint}."
        )
    return filled


def without(caption: str, phrase: str, class_word: str) -> str:
    """The caption with the class word in place of the concept's phrase.

    The case of the phrase does not matter, as in `fill`: CLIP reads lower case.

    >>> without("a photo of a <V1> dog", "<v1> dog", "dog")
    'a photo of a dog'
    """
    composed, parts, at = compose(caption), [], 0
    for start, end in spans(composed, [phrase], whole=False):
        parts += [composed[at:start], class_word]
        at = end
    return "".join([*parts, composed[at:]]) if parts else caption


def _prompts(prompt: str) -> tuple[str, ...]:
    if prompt in TEMPLATES:
        return TEMPLATES[prompt]
    if not prompt.endswith(".txt"):
        return (prompt,)
    prompts = tuple(read_lines(expand(prompt)))
    if not prompts:
        raise ValueError(f"The file {prompt} holds no prompt.")
    return prompts


def _holds(prompt: str, phrase: str) -> bool:
    return any(spans(compose(prompt), [phrase]))
