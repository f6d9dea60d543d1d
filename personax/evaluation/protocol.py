"""Who is taught what and asked for what: an evaluation's config, checked and read."""

import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from personax import methods
from personax.core.tree import nearest
from personax.data.published import Subject, read_pairs, read_subjects
from personax.evaluation.draw import CONCEPT
from personax.evaluation.train_subjects import Lesson
from personax.loading import Base
from personax.sampling.prompt_terms import parse

WAYS = ("joint", "merge", "add")
# Rows that nothing is taught for: the floor and the ceiling of what there is to learn.
BASE, RENDERS = "base", "renders"


class Question(NamedTuple):
    """One subject, or two, and the prompts that ask for them."""

    name: str  # "dog", of a pair "dog+cat"
    kind: str  # live, object, pair
    subjects: tuple[Subject, ...]
    templates: tuple[str, ...]  # {} is the subject, {0} and {1} those of a pair

    def prompts(self, words: Sequence[str]) -> list[str]:
        """Every template with these words for the subjects."""
        return said(self.templates, words)

    @property
    def class_words(self) -> list[str]:
        return [each.class_word for each in self.subjects]


class Protocol(NamedTuple):
    """All questions, and the configs of the rows that are to answer them."""

    config: ConfigDict
    singles: tuple[Question, ...]
    pairs: tuple[Question, ...]
    rows: Mapping[str, ConfigDict]  # of personax.train, a subject's own not yet said


def said(templates: Sequence[str], words: Sequence[str]) -> list[str]:
    """Templates with words for the subjects, {} of one, {0} and {1} of two.

    >>> said(["a {} at night"], ["<v1> dog"]), said(["a {1} and a {0}"], ["dog", "cat"])
    (['a <v1> dog at night'], ['a cat and a dog'])
    """
    if len(words) == 1:
        return [each.replace("{}", words[0]) for each in templates]
    return [each.format(*words) for each in templates]


def read_protocol(config: ConfigDict) -> Protocol:
    """The protocol that a config of configs/evaluate asks for.

    Raises ValueError or FileNotFoundError in one sentence for whatever does not exist.
    """
    source = config.subjects.source
    subjects = read_subjects(source, config.subjects.names)
    pairs = read_pairs(source, config.pairs) if config.pair_rows else ()
    paired = [name for pair in pairs for name in pair.names]
    known = subjects | (
        read_subjects(source, list(dict.fromkeys(paired))) if paired else {}
    )
    rows = {name: _row(config, name, row) for name, row in config.rows.items()}
    for name in (BASE, RENDERS):
        if name in rows:
            raise ValueError(f"The row {name} is there anyway; give another name.")
    for name, row in config.pair_rows.items():
        if row.of not in rows:
            raise ValueError(f"{name} is of {row.of!r}; rows: {', '.join(rows)}.")
        if config.rows[row.of].get("terms", ()):
            raise ValueError(f"{name} is of {row.of}, whose terms are of one subject.")
        if row.way not in WAYS:
            raise ValueError(f"{name}: no way {row.way!r}; ways: {', '.join(WAYS)}.")
    return Protocol(
        config,
        tuple(
            Question(
                name,
                each.kind,
                (each,),
                _templates(config, each.kind, each.prompts, f"The subject {name}"),
            )
            for name, each in subjects.items()
            if config.singles
        ),
        tuple(
            Question(
                "+".join(pair.names),
                "pair",
                tuple(known[name] for name in pair.names),
                _templates(config, "pair", pair.prompts, "+".join(pair.names)),
            )
            for pair in pairs
        ),
        rows,
    )


def lesson(protocol: Protocol, row: str, subject: Subject, out: pathlib.Path) -> Lesson:
    """What teaches a row's method one subject."""
    config = protocol.rows[row].copy_and_resolve_references()
    config.concept.update(_entry(subject))
    return Lesson(config, _folder(out, row, subject.name, config))


def joint_lesson(
    protocol: Protocol, row: str, pair: Question, out: pathlib.Path
) -> Lesson:
    """What teaches both of a pair in one training, of as many steps as apart."""
    config = protocol.rows[row].copy_and_resolve_references()
    config.steps *= len(pair.subjects)
    entries = [
        {"placeholder": f"<v{k}>", **_entry(subject)}
        for k, subject in enumerate(pair.subjects, 1)
    ]
    folder = _folder(out, row, pair.name, [config.to_dict(), entries])
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "concepts.json"
    listed.write_text(json.dumps(entries, indent=2) + "\n")
    config.concepts_list = str(listed)
    return Lesson(config, folder)


def _entry(subject: Subject) -> dict[str, str]:
    """What a config's `concept` says of one subject, and of no other."""
    return {
        "images": subject.images,
        "class_word": subject.class_word,
        "prior_prompt": subject.prior_prompt,
        "prior_images": subject.prior_images,
    }


def fingerprint(protocol: Protocol, base: Base, *parts: Any) -> str:
    """What changes when anything does that a cell depends on."""
    config = protocol.config
    asked = {key: config[key] for key in ("images", "seed", "draw", "bootstrap")}
    judges = {key: value for key, value in config.judges.items() if value}
    given = [config.real, *([config.vqa] if config.vqa else [])]
    return digest([asked, judges, *given, base.fingerprint, *parts])


def digest(record: Any) -> str:
    """Sixteen letters that tell records of plain values apart."""
    text = json.dumps(record, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value.to_dict() if isinstance(value, ConfigDict) else str(value)


def _folder(out: pathlib.Path, row: str, name: str, record: Any) -> pathlib.Path:
    # A row that is changed is taught anew, beside what it was.
    return out / "taught" / row / f"{name}.{digest(record)[:8]}"


def _row(config: ConfigDict, name: str, row: ConfigDict) -> ConfigDict:
    """The row's config of personax.train, with its changes, base and seed."""
    found = load_config(row.config).lock()
    try:
        found.update(row.get("changes", {}))
    except (KeyError, AttributeError, TypeError) as error:
        text = str(error.args[0]).rstrip(".")
        raise ValueError(f"The row {name} changes what {row.config} has not: {text}.")
    found.base, found.seed = config.base, config.seed
    found.loading.update(config.loading)
    found.preview.prompts, found.validation.every = (), 0
    methods.make(found.method, **found.method_args)
    _check_terms(name, row.get("terms", ()), found)
    return found


def _check_terms(name: str, terms: Sequence[str], config: ConfigDict) -> None:
    """ValueError for terms that cannot be drawn with; see draw.py."""
    for term_spec in map(parse, terms):
        if term_spec.model not in ("base", CONCEPT):
            raise ValueError(
                f"The row {name} has the term {str(term_spec)!r}; the models are "
                f"base and {CONCEPT}."
            )
        if (
            term_spec.model == "base"
            and "{}" in term_spec.prompt
            and config.concept.placeholder
        ):
            raise ValueError(
                f"The row {name} asks the base for {config.concept.placeholder}, which "
                f"it does not know; the prompt is for {CONCEPT}@ alone."
            )


def load_config(path: str) -> ConfigDict:
    """What a file's `get_config` returns. Raises FileNotFoundError without the file."""
    file = pathlib.Path(path)
    if not file.is_file():
        near = nearest(file.name, [each.name for each in file.parent.glob("*.py")])
        raise FileNotFoundError(f"There is no config {path}; nearest: {near}.")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module.get_config()


def _templates(
    config: ConfigDict, kind: str, own: Sequence[str], whose: str
) -> tuple[str, ...]:
    found = tuple(config.prompts[kind]) or tuple(own)
    if not found:
        raise ValueError(f"{whose} is asked nothing: prompts.{kind} is empty.")
    place = "{0}" if kind == "pair" else "{}"
    wrong = [each for each in found if place not in each]
    if wrong:
        raise ValueError(f"The prompt {wrong[0]!r} has no place {place} for {whose}.")
    return found
