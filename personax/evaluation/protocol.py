"""Evaluation tasks and training jobs of a config, with their fingerprints."""

import dataclasses
import json
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from personax import methods
from personax.concepts.bind import Model
from personax.core import files
from personax.data.published import Subject, read_pairs, read_subjects
from personax.evaluation import contents
from personax.evaluation.config import BASE, RENDERS, EvalConfig, RowConfig
from personax.evaluation.draw import CONCEPT, Draw
from personax.evaluation.samples import Metric
from personax.evaluation.train_subjects import TrainJob
from personax.loading import EMBEDDED, Base
from personax.sampling.grammar import parse_term
from personax.training.config import load_config

# Keys of training configs that came after work directories existed, with the values
# that stand for what was done before. Digests leave those out, so that results of
# earlier versions stay valid.
_LATER_KEYS = {
    "loading.vae": "",
    "concept.captions": "prompt",
    "concept.caption_column": "",
    "stream.caption_column": "",
    "stream.image_column": "",
}


class EvalTask(NamedTuple):
    """A subject, or a pair of subjects, and its prompts."""

    name: str  # "dog", or "dog+cat" for a pair
    kind: str  # live, object, pair
    subjects: tuple[Subject, ...]
    templates: tuple[str, ...]  # with {} for the subject, {0} and {1} for a pair

    def prompts(self, words: Sequence[str]) -> list[str]:
        """The templates with `words` for the subjects."""
        return with_words(self.templates, words)

    @property
    def class_words(self) -> list[str]:
        return [subject.class_word for subject in self.subjects]


class Protocol(NamedTuple):
    """An evaluation's tasks, and the training config of each row."""

    config: EvalConfig
    singles: tuple[EvalTask, ...]
    pairs: tuple[EvalTask, ...]
    rows: Mapping[str, ConfigDict]  # configs of personax.train, without a subject
    contents: Mapping[str, str] = {}  # {path: digest} of the files that are read

    @property
    def tasks(self) -> dict[str, tuple[EvalTask, ...]]:
        """{row: its tasks} in the order of the tables, reference rows first."""
        tasks = self.singles + self.pairs
        rows = {BASE: tasks}
        if self.config.subjects.source == EMBEDDED:
            rows[RENDERS] = tasks
        rows |= dict.fromkeys(self.rows, self.singles)
        return rows | dict.fromkeys(self.config.pair_rows, self.pairs)


class Runner(NamedTuple):
    """A loaded evaluation."""

    protocol: Protocol
    base: Base
    plain: Model  # the base without concepts
    draw: Draw
    metrics: Sequence[Metric]
    out: pathlib.Path
    only: Collection[str] = ()  # the rows to run, all if empty

    @property
    def config(self) -> EvalConfig:
        return self.protocol.config


def with_words(templates: Sequence[str], words: Sequence[str]) -> list[str]:
    """Templates with words for the subjects: {} of one, {0} and {1} of two.

    >>> with_words(["a {} at night"], ["<v1> dog"])
    ['a <v1> dog at night']
    >>> with_words(["a {1} and a {0}"], ["dog", "cat"])
    ['a cat and a dog']
    """
    if len(words) == 1:
        return [template.replace("{}", words[0]) for template in templates]
    return [template.format(*words) for template in templates]


def make_protocol(config: EvalConfig) -> Protocol:
    """The protocol of a config, with the digests of the files that it names.

    Raises ValueError or FileNotFoundError for invalid subjects, pairs, training configs
    and terms.
    """
    source = config.subjects.source
    subjects = read_subjects(source, config.subjects.names)
    pairs = read_pairs(source, config.pairs) if config.pair_rows else ()
    paired = list(dict.fromkeys(name for pair in pairs for name in pair.names))
    by_name = subjects | (read_subjects(source, paired) if paired else {})
    rows = {name: _train_config(config, name, row) for name, row in config.rows.items()}
    singles = [
        EvalTask(
            name,
            subject.kind,
            (subject,),
            _templates(config, subject.kind, subject.prompts, f"subject {name}"),
        )
        for name, subject in subjects.items()
        if config.singles
    ]
    of_pairs = [
        EvalTask(
            "+".join(pair.names),
            "pair",
            tuple(by_name[name] for name in pair.names),
            _templates(config, "pair", pair.prompts, f"pair {'+'.join(pair.names)}"),
        )
        for pair in pairs
    ]
    prompts = max((len(task.templates) for task in (*singles, *of_pairs)), default=1)
    if config.seed + prompts > 2**32:
        raise ValueError(
            f"seed={config.seed}: the {prompts} prompts of a subject have the seeds "
            "from there on; the last must be below 2**32."
        )
    read = [path for row in rows.values() for path in contents.of_row(row)]
    for subject in by_name.values():
        read += contents.of_subject(subject)
        read += contents.of_metrics(config, subject.class_word)
    lists = contents.sets(config, by_name.values())
    digests = contents.digests([*read, config.merge_captions or ""], lists)
    return Protocol(config, tuple(singles), tuple(of_pairs), rows, digests)


def jobs(
    protocol: Protocol, row: str, task: EvalTask, out: pathlib.Path
) -> list[TrainJob]:
    """The jobs that train what a row needs for a task, none for a reference row."""
    pair = protocol.config.pair_rows.get(row)
    if pair is not None and pair.way == "joint":
        return [_joint_job(protocol, pair.of, task, out)]
    trained = pair.of if pair else row
    if trained not in protocol.rows:
        return []
    return [_job(protocol, trained, subject, out) for subject in task.subjects]


def _job(protocol: Protocol, row: str, subject: Subject, out: pathlib.Path) -> TrainJob:
    """The job that trains a row's method on one subject."""
    config = protocol.rows[row].copy_and_resolve_references()
    config.concept.update(_concept(subject))
    read = _contents(
        protocol, [*contents.of_subject(subject), *contents.of_row(config)]
    )
    record = [config, read] if read else config
    return TrainJob(config, _folder(out, row, subject.name, record))


def _joint_job(
    protocol: Protocol, row: str, pair: EvalTask, out: pathlib.Path
) -> TrainJob:
    """The job that trains a pair jointly, with the steps of both subjects."""
    config = protocol.rows[row].copy_and_resolve_references()
    config.steps *= len(pair.subjects)
    concepts = [
        {"placeholder": f"<v{k}>", **_concept(subject)}
        for k, subject in enumerate(pair.subjects, 1)
    ]
    paths = [path for each in pair.subjects for path in contents.of_subject(each)]
    read = _contents(protocol, [*paths, *contents.of_row(config)])
    record = [config, concepts, read] if read else [config, concepts]
    folder = _folder(out, row, pair.name, record)
    path = folder / "concepts.json"
    files.write_json(path, concepts)
    config.concepts_list = str(path)
    return TrainJob(config, folder)


def fingerprint(protocol: Protocol, base: Base, row: str, task: EvalTask) -> str:
    """A digest of everything that the result of a row and a task depends on.

    Contents of files count where there are any: a bundled subject has none.
    """
    config = protocol.config
    pair = config.pair_rows.get(row)
    trained = pair.of if pair else row
    settings = {name: getattr(config, name) for name in ("images", "seed", "bootstrap")}
    settings["draw"] = dataclasses.asdict(config.draw)
    record = [
        *(settings, config.metrics, config.real or ""),
        *([config.vqa] if config.vqa else []),
        *(base.fingerprint, row, _record(task), protocol.rows.get(trained)),
        dataclasses.asdict(pair) if pair else None,
    ]
    if trained in config.rows and config.rows[trained].terms:
        record.append(config.rows[trained].terms)
    if config.loading.get("vae"):
        record.append(base.vae_fingerprint)
    paths = [path for each in task.subjects for path in contents.of_subject(each)]
    paths += contents.of_metrics(config, task.class_words[0])
    if trained in protocol.rows:
        paths += contents.of_row(protocol.rows[trained])
    if pair and pair.way == "merge":
        paths.append(config.merge_captions or "")
    read = _contents(protocol, paths)
    return digest([*record, read] if read else record)


def _contents(protocol: Protocol, paths: Sequence[str]) -> dict[str, str]:
    known = protocol.contents
    return {path: known[path] for path in paths if path in known}


def digest(record: Any) -> str:
    """A digest of plain values and configs, independent of the order of keys."""
    return files.digest(json.dumps(record, sort_keys=True, default=_plain))


def _plain(value: Any) -> Any:
    if not isinstance(value, ConfigDict):
        return str(value)
    values = value.to_dict()
    for key, default in _LATER_KEYS.items():
        section, name = key.split(".")
        if values.get(section, {}).get(name) == default:
            del values[section][name]
    return values


def _record(task: EvalTask) -> list[Any]:
    """The task for `digest`; work directories store digests of this very form."""
    subjects = [
        (
            *(each.name, each.images, each.class_word, each.kind, each.prompts),
            *(each.prior_prompt or "", each.prior_images or ""),
        )
        for each in task.subjects
    ]
    return [task.name, task.kind, subjects, task.templates]


def _concept(subject: Subject) -> dict[str, str]:
    """The keys of a training config's `concept` that depend on the subject."""
    return {
        "images": subject.images,
        "class_word": subject.class_word,
        "prior_prompt": subject.prior_prompt or "",
        "prior_images": subject.prior_images or "",
    }


def _folder(out: pathlib.Path, row: str, name: str, record: Any) -> pathlib.Path:
    # The digest separates the jobs of different settings of a row.
    return out / "taught" / row / f"{name}.{digest(record)[:8]}"


def _train_config(config: EvalConfig, name: str, row: RowConfig) -> ConfigDict:
    """The row's training config, with the evaluation's base and seed."""
    train = load_config(row.config).lock()
    try:
        train.update(row.changes)
    except (KeyError, AttributeError, TypeError) as error:
        text = str(error.args[0]).rstrip(".")
        raise ValueError(f"Row {name} has changes that {row.config} rejects: {text}.")
    train.base, train.seed = config.base, config.seed
    train.loading.update(config.loading)
    train.preview.prompts, train.validation.every = (), 0
    methods.make(train.method, **train.method_args)
    for term in map(parse_term, row.terms):
        if term.model not in ("base", CONCEPT):
            raise ValueError(
                f"Row {name} has the term {str(term)!r}; its model must be base or "
                f"{CONCEPT}."
            )
        placeholder = train.concept.placeholder
        if term.model == "base" and "{}" in term.prompt and placeholder:
            raise ValueError(
                f"Row {name} has the term {str(term)!r}, but the base does not know "
                f"{placeholder}; only {CONCEPT}@ terms can use the prompt."
            )
    return train


def _templates(
    config: EvalConfig, kind: str, published: Sequence[str], owner: str
) -> tuple[str, ...]:
    templates = getattr(config.prompts, kind) or tuple(published)
    if not templates:
        raise ValueError(f"The {owner} has no prompts: set prompts.{kind}.")
    field = "{0}" if kind == "pair" else "{}"
    for template in templates:
        if field not in template:
            raise ValueError(
                f"The prompt {template!r} of the {owner} does not contain {field}."
            )
    return templates
