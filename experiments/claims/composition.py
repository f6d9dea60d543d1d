"""Ways to combine several concepts in one model, as sources of `with_concepts`."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.portrait_runs import train_to_end
from experiments.claims.training import method_config, train_concept
from personax.concepts.merge import merge, read_captions
from personax.core.files import write_json
from personax.data import emoji
from personax.loading import Base


class Composition(NamedTuple):
    """Bundled subjects to combine, and the folder of their trainings."""

    base: Base
    subjects: tuple[str, ...]
    steps: int  # for each subject
    folder: pathlib.Path

    def separate(self, method: str = "custom_diffusion") -> list[str]:
        """Each subject's concept, trained without the others."""
        folders = []
        for subject in self.subjects:
            config = method_config(method, subject)
            config.steps = self.steps
            folders.append(str(train_concept(config, self.folder / method)))
        return folders

    def joint(self) -> list[str]:
        """All subjects in one training by Custom Diffusion."""
        folder = self.folder / "joint"
        config = method_config("custom_diffusion", self.subjects[0])
        config.steps = self.steps * len(self.subjects)
        entries = [  # they override the config's concept
            {
                "images": subject,
                "placeholder": f"<v{i}>",
                "class_word": emoji.subject(subject).class_word,
            }
            for i, subject in enumerate(self.subjects, start=1)
        ]
        config.concepts_list = str(folder / "concepts.json")
        write_json(folder / "concepts.json", entries)
        train_to_end(config, folder / "run")
        return [str(folder / "run" / "concept")]

    def sequential(self) -> list[str]:
        """One subject after another, each on top of the concepts before."""
        concept = self.separate()[0]
        for i, subject in enumerate(self.subjects[1:], start=2):
            config = method_config("custom_diffusion", subject)
            config.steps = self.steps
            config.concept.placeholder, config.before = f"<v{i}>", (concept,)
            config.concept.initial = config.concept.initial.split("+")[i - 1]
            run = self.folder / "sequential" / f"run{i}"
            train_to_end(config, run)
            concept = str(run / "concept")
        return [concept]

    def merged(self) -> list[str]:
        """The separate concepts, merged in closed form."""
        out = self.folder / "merged" / "concept"
        if not (out / "concept.json").is_file():
            folders = [pathlib.Path(path) for path in self.separate()]
            merge(self.base, folders, out, read_captions(self.base, None))
        return [str(out)]

    def two_tokens(self) -> list[str]:
        """Textual Inversion's separate tokens, side by side, as `<v1>`, `<v2>`, …."""
        folders = self.separate("textual_inversion")
        return [f"<v{i}>={path}" for i, path in enumerate(folders, start=1)]


WAYS: dict[str, Callable[[Composition], Sequence[str]]] = {
    "the base": lambda composition: (),
    "joint": Composition.joint,
    "merged": Composition.merged,
    "sequential": Composition.sequential,
    "two tokens": Composition.two_tokens,
}
