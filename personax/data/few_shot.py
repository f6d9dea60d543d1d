"""Few pictures as a dataset: concepts and regularisation sets, augmented per step.

Cut-Mix puts pictures of two concepts side by side (SVDiff, Han et al. 2023).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from personax.core import images
from personax.core.files import digest
from personax.core.images import Mask, Pixels
from personax.data.augment import Augmentation, View, view
from personax.data.dataset import Dataset, Rows
from personax.data.order import permuted
from personax.data.templates import without


class Example(NamedTuple):
    """A picture and its captions."""

    pixels: Pixels
    captions: tuple[str, ...]  # one is chosen per visit
    phrase: str = ""  # the concept's words in the captions, "<v1> dog"
    class_word: str = ""  # what replaces them in plain captions, "dog"
    mask: Mask | None = None  # weight of each pixel in the loss
    repeats: int = 1  # visits per epoch


class Row(NamedTuple):
    """One example of one step."""

    item: tuple[int, int, bool] | None  # (set, number, mirrored), where not augmented
    view: View | None  # an augmented picture
    caption: str
    plain: str


@dataclasses.dataclass(frozen=True, eq=False)
class FewShot(Dataset):
    """The examples of each concept, and of each regularisation set.

    A step has `batch` rows of the concepts, which take turns whatever their numbers of
    pictures, then as many of the regularisation sets. Those are never augmented.

    Raises ValueError for options that do not exist or do not fit the size.
    """

    concepts: tuple[tuple[Example, ...], ...]
    size: tuple[int, int]  # (height, width) in pixels
    factor: int  # pixels per latent cell
    batch: int
    seed: int
    priors: tuple[tuple[Example, ...], ...] = ()
    prior_weight: float = 1.0
    options: Augmentation = Augmentation()
    steps: int | None = None
    own_captions: bool = False  # of the concepts' pictures, in files beside them

    caption_chunk = 1  # the size of a chunk decides the last bits

    def __post_init__(self):
        options, width = self.options, self.size[1]
        if options.cut_mix:
            prompt = options.cut_mix_prompt
            if len(self.concepts) < 2:
                raise ValueError(
                    "cut_mix puts two concepts side by side; there is only one."
                )
            if prompt.count("{}") != 2:
                raise ValueError(
                    f"cut_mix_prompt={prompt!r} must have a {{}} for each of two "
                    f"concepts, as {Augmentation.cut_mix_prompt!r} has."
                )
            if width % (2 * self.factor):
                raise ValueError(
                    f"cut_mix needs half a canvas of whole latent cells: {width} "
                    f"pixels do not divide by 2 * {self.factor}."
                )
        self._view(self.concepts[0][0], np.random.default_rng(0), "", options)

    @property
    def rows_per_step(self) -> int:
        return self.batch * (2 if self.priors else 1)

    @functools.cached_property
    def captions(self) -> tuple[str, ...]:
        options = self.options
        if options.augment != "none":  # which adds words
            return ()
        examples = itertools.chain.from_iterable((*self.concepts, *self.priors))
        captions = [caption for example in examples for caption in example.captions]
        if options.cut_mix:
            phrases = [examples[0].phrase for examples in self.concepts]
            captions += [
                _fill(options.cut_mix_prompt, *pair)
                for pair in itertools.permutations(phrases, 2)
            ]
        if options.caption_dropout:
            captions.append("")
        return tuple(dict.fromkeys(captions))

    @property
    def items(self) -> Sequence[Callable[[], Float[np.ndarray, "height width 3"]]]:
        return [lambda item=item: self._unvaried(*item).pixels for item in self._index]

    def step(self, step: int) -> Rows:
        rows = list(self.rows(step))
        result: Rows = {
            "caption": [row.caption for row in rows],
            "plain": [row.plain for row in rows],
        }
        views = [row.view for row in rows if row.view is not None]
        items = [row.item for row in rows if row.item is not None]
        if views:
            result["pixels"] = np.stack([each.pixels for each in views])
        if items:
            result["item"] = np.array([self._index[item] for item in items], np.int32)
        if self.options.augment != "none" or self._masked:
            masks = [each.mask for each in views]
            masks += [self._masks[item] for item in items]
            result["mask"] = np.stack(masks)
        if self.priors:
            # mean + prior_weight * mean, as a mean over all rows.
            share = len(rows) / self.batch
            weight = [share] * self.batch + [share * self.prior_weight] * self.batch
            result["weight"] = np.array(weight, np.float32)
            result["marked"] = np.arange(len(rows)) < self.batch
        return result

    def rows(self, step: int) -> Iterator[Row]:
        """The examples of a step, the concepts' first."""
        count = len(self.concepts)
        for offset, sets in ((0, self.concepts), (count, self.priors)):
            for row in range(self.batch if sets else 0):
                slot = step * self.batch + row
                which, turn = slot % len(sets), slot // len(sets)
                examples, seed = sets[which], [self.seed, offset + which]
                visits = self._visits[offset + which]
                number = visits[permuted(len(visits), turn, seed)]
                rng = np.random.default_rng([*seed, step, row])
                yield self._row(offset + which, number, examples[number], rng)

    def preview(self, count: int) -> list[Pixels]:
        """All pictures of the concepts."""
        return [
            images.to_uint8(images.fit(example.pixels, self.size))
            for examples in self.concepts
            for example in examples
        ]

    def fingerprint(self) -> dict[str, str]:
        result = {}
        for i, examples in enumerate(self.concepts):
            result[f"pictures {i}"] = _digest([each.pixels for each in examples])
            masks = [each.mask for each in examples if each.mask is not None]
            if masks:
                result[f"masks {i}"] = _digest(masks)
            if self.own_captions:
                texts = [(each.captions, each.repeats) for each in examples]
                result[f"captions {i}"] = digest(repr(texts))
        return result

    def _row(self, which: int, number: int, example: Example, rng) -> Row:
        options = self.options
        mixes = options.cut_mix and which < len(self.concepts)
        if mixes and rng.random() < options.cut_mix:
            return self._mixed(which, example, rng)
        mirrored = bool(options.flip and rng.random() < 0.5)
        caption = example.captions[rng.integers(len(example.captions))]
        item, augmented = (which, number, mirrored), None
        if self._varies(which):
            if mirrored:
                example = _mirror(example)
            item, augmented = None, self._view(example, rng, caption, options)
            caption = augmented.caption
        if rng.random() < options.caption_dropout:
            caption = ""
        plain = without(caption, example.phrase, example.class_word)
        return Row(item, augmented, caption, plain)

    def _mixed(self, which: int, example: Example, rng) -> Row:
        """The example beside one of another concept, in random order."""
        others = [examples for i, examples in enumerate(self.concepts) if i != which]
        examples = others[rng.integers(len(others))]
        pair = [example, examples[rng.integers(len(examples))]]
        if rng.random() < 0.5:
            pair.reverse()
        (height, width), options = self.size, self.options.off()
        half = height, width // 2
        views = [self._view(each, rng, "", options, half) for each in pair]
        pixels, mask = (
            np.concatenate(halves, axis=1)
            for halves in ([x.pixels for x in views], [x.mask for x in views])
        )
        prompt = self.options.cut_mix_prompt
        caption = _fill(prompt, *(each.phrase for each in pair))
        plain = _fill(prompt, *(each.class_word for each in pair))
        return Row(None, View(pixels, mask, caption), caption, plain)

    def _varies(self, which: int) -> bool:
        """Whether a set's pictures differ from visit to visit."""
        options = self.options
        return which < len(self.concepts) and (
            options.augment != "none" or options.crop == "random" or options.cut_mix > 0
        )

    def _view(
        self,
        example: Example,
        rng: np.random.Generator,
        caption: str,
        options: Augmentation,
        size: tuple[int, int] | None = None,
    ) -> View:
        size, mask = size or self.size, example.mask
        return view(rng, example.pixels, caption, size, self.factor, options, mask)

    def _unvaried(self, which: int, number: int, mirrored: bool) -> View:
        example = (*self.concepts, *self.priors)[which][number]
        if mirrored:
            example = _mirror(example)
        return self._view(example, np.random.default_rng(0), "", self.options.off())

    @functools.cached_property
    def _index(self) -> dict[tuple[int, int, bool], int]:
        """{(set, number, mirrored): index} of the pictures that do not vary."""
        turns = (False, True) if self.options.flip else (False,)
        items = [
            (which, number, mirrored)
            for which, examples in enumerate((*self.concepts, *self.priors))
            if not self._varies(which)
            for number in range(len(examples))
            for mirrored in turns
        ]
        return {item: i for i, item in enumerate(items)}

    @functools.cached_property
    def _visits(self) -> list[list[int]]:
        """The numbers of each set's examples, each as often as it is visited."""
        return [
            [number for number, each in enumerate(own) for _ in range(each.repeats)]
            for own in (*self.concepts, *self.priors)
        ]

    @functools.cached_property
    def _masks(self) -> dict[tuple[int, int, bool], Float[np.ndarray, "h w"]]:
        return {item: self._unvaried(*item).mask for item in self._index}

    @functools.cached_property
    def _masked(self) -> bool:
        """Whether any picture has a mask; the others then count everywhere."""
        return any(each.mask is not None for own in self.concepts for each in own)


def _fill(prompt: str, left: str, right: str) -> str:
    """The caption of a pair, the left one first."""
    before, between, after = prompt.split("{}")
    return f"{before}{left}{between}{right}{after}"


def _mirror(example: Example) -> Example:
    mask = None if example.mask is None else example.mask[:, ::-1]
    return example._replace(pixels=example.pixels[:, ::-1], mask=mask)


def _digest(arrays: Sequence[Pixels | Mask]) -> str:
    return digest(*(part for x in arrays for part in (str(x.shape), x.tobytes())))
