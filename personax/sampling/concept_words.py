"""The words of a model's concepts in prompts: filled in, missed, or unknown."""

from collections.abc import Iterable, Mapping, Sequence

from personax.concepts.bind import Model
from personax.core.errors import notice
from personax.networks.tokenizer import positions, unknown_placeholders

_MARK = "{}"


def filled(model: Model, prompts: Iterable[str]) -> tuple[str, ...]:
    """The prompts with the phrase of the model's only concept for "{}".

    Lists of prompts for evaluations have that mark. Of several concepts, or none, it is
    left as it is. Either is said on stderr.
    """
    prompts = tuple(prompts)
    first = next((prompt for prompt in prompts if _MARK in prompt), None)
    if first is None:
        return prompts
    if len(model.concepts) != 1:
        count = len(model.concepts) or "no"
        notice(
            f"{first!r} is drawn with its {{}}: there are {count} concepts, not one."
        )
        return prompts
    (concept,) = model.concepts
    phrase = concept.phrase or f"{concept.placeholder} {concept.class_word}".strip()
    notice(f"{{}} in prompts such as {first!r} stands for {phrase!r}.")
    return tuple(prompt.replace(_MARK, phrase) for prompt in prompts)


def remark(models: Mapping[str, Model], prompts: Mapping[str, Sequence[str]]) -> None:
    """Say on stderr which concepts no prompt of their model names.

    `prompts` are {model: its prompts}. A model beside the base may be meant to draw
    without any, as in the term "face@1.5:".
    """
    for name, model in models.items():
        own = prompts.get(name, ())
        if name != "base" and not any(own):
            continue
        for concept in model.concepts:
            word = concept.placeholder
            if word and not any(positions(model.tokenizer, x, word) for x in own):
                notice(
                    f"No prompt has {word!r}, the word of the concept of the model "
                    f"{name!r}: it is drawn without its subject."
                )


def check(model: Model, prompt: str) -> None:
    """ValueError for a word in angle brackets that the model does not know.

    Also for a text that is not Unicode: Python keeps bytes that are not UTF-8 as
    surrogates, which no tokenizer reads.
    """
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ValueError(f"The prompt {prompt!r} is not valid Unicode.")
    unknown = unknown_placeholders(model.tokenizer, [prompt])
    if not unknown:
        return
    words = [other.word for other in model.tokenizer.placeholders]
    words += [concept.handle for concept in model.concepts if not concept.placeholder]
    if words:
        known = ", ".join(dict.fromkeys(words))
        rest = f"expected {known}, the word of what --concept gave."
    else:
        rest = (
            "add one with --concept DIR; a concept without a word can be given one: "
            f"--concept '{unknown[0]}=DIR'."
        )
    raise ValueError(f"Unknown concept {unknown[0]} in {prompt!r}; {rest}")
