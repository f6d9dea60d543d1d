"""Blind preference study: the voters' page, its secret key, and the voters' ballots."""

import itertools
import json
import pathlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from personax.core import files
from personax.core.images import Pixels, read_images
from personax.evaluation import results
from personax.evaluation.page import data_uri, fill, pictures_of, reduced, tiles
from personax.evaluation.results import EvalResult, Sample

KINDS = ("subject", "text")  # which resembles the subject, which fits the text
CHOICES = ("left", "right", "tie")
_KEY, _VOTES = "personax study 1", "personax votes 1"


class StudyQuestion(NamedTuple):
    """Two methods' pictures of the same sample, side by side."""

    kind: str  # one of KINDS
    subject: str
    sample: Sample
    left: str  # a method
    right: str


class Ballot(NamedTuple):
    """One voter's choices."""

    voter: str
    choices: Mapping[str, str]  # {a question's id: one of CHOICES}


def build(
    page: pathlib.Path,
    run: pathlib.Path,
    *,
    methods: Sequence[str],
    references: pathlib.Path,
    questions: int = 40,
    seed: int = 0,
) -> pathlib.Path:
    """Write a page of an evaluation's pictures and, beside it, its key; the key's path.

    Every pair of `methods` has the same number of questions, half of each of KINDS, and
    each method is on either side equally often. The page has no method names; only the
    key has. `references` has a folder of pictures per subject.

    Raises FileNotFoundError without an evaluation or references. Raises ValueError for
    unknown methods, if they share too few pictures of the same prompt, seed and index,
    and for a subject without references.
    """
    if page.suffix == ".json":
        raise ValueError(f"--out {page} must not be .json, the suffix of the key.")
    evaluated = list(results.read(run / results.JOURNAL).values())
    if not evaluated:
        raise FileNotFoundError(
            f"{run} has no evaluation: {results.JOURNAL} is missing or empty."
        )
    pictures = _read_references(references)
    chosen = _choose(evaluated, methods, questions, seed)
    subjects = sorted({question.subject for question in chosen})
    by_subject = {name: pictures_of(name, pictures) for name in subjects}
    for name, own in by_subject.items():
        if not own:
            raise ValueError(f"The subject {name} has no reference pictures.")
    pairs = _pictures(chosen, evaluated, run)
    names = [f"q{number:03}" for number in range(1, len(chosen) + 1)]
    key = {
        "format": _KEY,
        "seed": seed,
        "methods": list(methods),
        "questions": list(map(_record, names, chosen, pairs)),
    }
    key = {"study": _digest(key), **key}
    data = {
        "study": key["study"],
        "format": _VOTES,
        "questions": [
            {
                "id": name,
                "kind": question.kind,
                "prompt": question.sample.prompt,
                "subject": subjects.index(question.subject),
                "left": data_uri(left),
                "right": data_uri(right),
            }
            for name, question, (left, right) in zip(names, chosen, pairs, strict=True)
        ],
        "references": [
            {
                "several": "+" in name,
                "pictures": [data_uri(reduced(each)) for each in own],
            }
            for name, own in by_subject.items()
        ],
    }
    files.write_text(page, fill("study", "Which picture is better?", data))
    path = page.with_suffix(".json")
    files.write_text(path, json.dumps(key, indent=2, ensure_ascii=False) + "\n")
    return path


def read_key(path: pathlib.Path) -> dict[str, Any]:
    """A study's key. Raises ValueError for another file, and for an edited one."""
    key = _read_json(path)
    if key.get("format") != _KEY:
        raise ValueError(f"{path} is not a study's key of the format {_KEY!r}.")
    if key.get("study") != _digest({k: v for k, v in key.items() if k != "study"}):
        raise ValueError(f"{path} was edited: it does not match its digest.")
    return key


def read_ballots(paths: Sequence[pathlib.Path], key: Mapping[str, Any]) -> list[Ballot]:
    """The voters' files. Raises ValueError for a foreign, edited or empty one.

    The checksum detects accidental edits, not forgery.
    """
    by_voter: dict[str, pathlib.Path] = {}
    ballots = []
    for path in paths:
        ballot = _read_ballot(path, key)
        if ballot.voter in by_voter:
            raise ValueError(
                f"{by_voter[ballot.voter]} and {path} are of the same voter; pass only "
                f"the later one."
            )
        by_voter[ballot.voter] = path
        ballots.append(ballot)
    return ballots


def _read_references(folder: pathlib.Path) -> dict[str, Sequence[Pixels]]:
    """{subject: the pictures in the folder of its name}."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} of references.")
    return {
        path.name: list(read_images(path).values())
        for path in sorted(folder.iterdir())
        if path.is_dir()
    }


def _choose(
    evaluated: Sequence[EvalResult], methods: Sequence[str], questions: int, seed: int
) -> list[StudyQuestion]:
    """The questions in the order of the page: all of one kind, then of the other."""
    known = list(dict.fromkeys(result.method for result in evaluated))
    for method in methods:
        if method not in known:
            raise ValueError(
                f"Unknown method {method!r}; evaluated methods: {', '.join(known)}."
            )
    if len(set(methods)) != len(methods) or len(methods) < 2:
        raise ValueError("A study compares at least two different methods (--methods).")
    pairs = list(itertools.combinations(methods, 2))
    if questions < len(KINDS) * len(pairs):
        raise ValueError(
            f"{questions} questions are too few: {len(pairs)} pairs of methods require "
            f"one of each of {len(KINDS)} kinds."
        )
    rng = np.random.default_rng(seed)
    chosen = []
    groups = list(itertools.product(KINDS, pairs))
    for i, (kind, pair) in enumerate(groups):
        # 10 questions for 4 groups are 2, 3, 2 and 3.
        share = (i + 1) * questions // len(groups) - i * questions // len(groups)
        chosen += _of_pair(evaluated, kind, pair, share, rng)
    chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    order = rng.permutation(len(KINDS))
    return sorted(chosen, key=lambda question: order[KINDS.index(question.kind)])


def _of_pair(
    evaluated: Sequence[EvalResult],
    kind: str,
    pair: tuple[str, str],
    share: int,
    rng: np.random.Generator,
) -> list[StudyQuestion]:
    """`share` questions, spread over subjects, each method on either side as often."""
    common = _in_common(evaluated, pair)
    total = sum(map(len, common.values()))
    if share > total:
        raise ValueError(
            f"{pair[0]} and {pair[1]} share {total} pictures of the same prompt, seed "
            f"and index, but {share} are needed: use fewer --questions."
        )
    names = [list(common)[i] for i in rng.permutation(len(common))]
    shuffled = [[common[n][i] for i in rng.permutation(len(common[n]))] for n in names]
    turns = itertools.zip_longest(*shuffled)
    drawn = [
        (name, sample)
        for turn in turns
        for name, sample in zip(names, turn, strict=True)
        if sample is not None
    ][:share]
    swapped = rng.permutation(np.arange(share) + rng.integers(2)) % 2
    return [
        StudyQuestion(kind, name, sample, *(reversed(pair) if swap else pair))
        for (name, sample), swap in zip(drawn, swapped, strict=True)
    ]


def _in_common(
    evaluated: Sequence[EvalResult], pair: tuple[str, str]
) -> dict[str, list[Sample]]:
    """{subject: the samples that both methods have pictures of}."""
    one, other = (
        {result.subject: result.samples for result in evaluated if result.method == m}
        for m in pair
    )
    return {
        name: [sample for sample in one[name] if sample in set(other[name])]
        for name in one
        if name in other
    }


def _pictures(
    questions: Sequence[StudyQuestion],
    evaluated: Sequence[EvalResult],
    run: pathlib.Path,
) -> list[tuple[Pixels, Pixels]]:
    """(left, right) of each question; every sheet is read once."""
    by_name = {result.name: result for result in evaluated}
    names = {(m, each.subject) for each in questions for m in (each.left, each.right)}
    sheets = {name: tiles(run, by_name[name]) for name in names}

    def picture(method: str, question: StudyQuestion) -> Pixels:
        name = method, question.subject
        return sheets[name][by_name[name].samples.index(question.sample)]

    return [(picture(each.left, each), picture(each.right, each)) for each in questions]


def _record(
    name: str, question: StudyQuestion, pair: tuple[Pixels, Pixels]
) -> dict[str, Any]:
    """A question as the key has it."""
    return {
        "id": name,
        "kind": question.kind,
        "subject": question.subject,
        "left": question.left,
        "right": question.right,
        **question.sample._asdict(),
        "pictures": files.digest(*(pixels.tobytes() for pixels in pair)),
    }


def _read_ballot(path: pathlib.Path, key: Mapping[str, Any]) -> Ballot:
    record = _read_json(path)
    if record.get("format") != _VOTES:
        raise ValueError(f"{path} has no votes of the format {_VOTES!r}.")
    if record.get("study") != key["study"]:
        raise ValueError(f"{path} has votes of another study than the key's.")
    votes, voter = record.get("votes", []), str(record.get("voter"))
    try:
        lines = [f"{name} {choice}\n" for name, choice in votes]
    except (TypeError, ValueError):
        raise ValueError(f"{path} was edited: its votes are not pairs.")
    text = "".join([f"{record['study']}\n{voter}\n", *lines])
    if record.get("sum") != f"{zlib.crc32(text.encode()):08x}":
        raise ValueError(f"{path} was edited: its votes do not match its checksum.")
    if not votes:
        raise ValueError(f"{path} has no votes.")
    ids, choices = {each["id"] for each in key["questions"]}, dict(votes)
    if not choices.keys() <= ids or not set(choices.values()) <= set(CHOICES):
        raise ValueError(f"{path} has votes that do not belong to this study.")
    return Ballot(voter, choices)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        record = json.loads(files.read_text(path))
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a study's file: it is not a JSON object.")
    return record


def _digest(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return files.digest(text, length=32)
