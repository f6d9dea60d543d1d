"""Blind preference study: the voters' page, its secret key, and the voters' ballots."""

import functools
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


# Two methods' pictures of one sample, as the key has them: {"kind": one of KINDS,
# "subject", "left" and "right": methods, and the fields of `Sample`}.
Question = dict[str, Any]


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
    for a subject without references, and where the files exist and are not this study.
    """
    if page.suffix == ".json":
        raise ValueError(f"--out {page} must not be .json, the suffix of the key.")
    evaluated = list(results.read(run / results.JOURNAL).values())
    if not evaluated:
        raise FileNotFoundError(
            f"{run} has no evaluation: {results.JOURNAL} is missing or empty."
        )
    if not references.is_dir():
        raise FileNotFoundError(f"There is no folder {references} of references.")
    pictures = {
        path.name: list(read_images(path).values())
        for path in sorted(references.iterdir())
        if path.is_dir()
    }
    chosen = _choose(evaluated, methods, questions, seed)
    subjects = sorted({question["subject"] for question in chosen})
    by_subject = {name: pictures_of(name, pictures) for name in subjects}
    for name, own in by_subject.items():
        if not own:
            raise ValueError(f"The subject {name} has no reference pictures.")
    by_name = {result.name: result for result in evaluated}
    sheet = functools.cache(lambda name: tiles(run, by_name[name]))

    def picture(question: Question, side: str) -> Pixels:
        name = question[side], question["subject"]
        sample = Sample(*(question[key] for key in Sample._fields))
        return sheet(name)[by_name[name].samples.index(sample)]

    asked, shown = [], []  # the questions of the key and of the page
    for number, question in enumerate(chosen, 1):
        left, right = picture(question, "left"), picture(question, "right")
        name = {"id": f"q{number:03}"}
        digest = files.digest(left.tobytes(), right.tobytes())
        asked.append({**name, **question, "pictures": digest})
        shown.append(
            {
                **name,
                "kind": question["kind"],
                "prompt": question["prompt"],
                "subject": subjects.index(question["subject"]),
                "left": data_uri(left),
                "right": data_uri(right),
            }
        )
    key = {"format": _KEY, "seed": seed, "methods": list(methods), "questions": asked}
    key = {"study": digest_of(key), **key}
    shown_references = [
        {"several": "+" in name, "pictures": [data_uri(reduced(x)) for x in own]}
        for name, own in by_subject.items()
    ]
    data = {
        "study": key["study"],
        "format": _VOTES,
        "questions": shown,
        "references": shown_references,
    }
    path = page.with_suffix(".json")
    _check_replaceable(page, path, key)
    files.write_text(page, fill("study", "Which picture is better?", data))
    files.write_text(path, json.dumps(key, indent=2, ensure_ascii=False) + "\n")
    return path


def _check_replaceable(
    page: pathlib.Path, path: pathlib.Path, key: Mapping[str, Any]
) -> None:
    """Raise ValueError for files of anybody else, and for the key of another study.

    Without its key the votes of a study are lost.
    """
    if path.exists():
        if read_key(path)["study"] != key["study"]:
            raise ValueError(
                f"{path} is the key of another study, whose votes need it; choose "
                "another --out."
            )
    elif page.exists():
        raise ValueError(
            f"{page} exists and has no key {path} beside it: it is no study of ours; "
            "choose another --out."
        )


def read_key(path: pathlib.Path) -> dict[str, Any]:
    """A study's key. Raises ValueError for another file, and for an edited one."""
    key = _read_json(path)
    if key.get("format") != _KEY:
        raise ValueError(f"{path} is not a study's key of the format {_KEY!r}.")
    if key.get("study") != digest_of({k: v for k, v in key.items() if k != "study"}):
        raise ValueError(f"{path} was edited: it does not match its digest.")
    return key


def read_ballots(paths: Sequence[pathlib.Path], key: Mapping[str, Any]) -> list[Ballot]:
    """The voters' files. Raises ValueError for a foreign, edited or empty one.

    The checksum detects accidental edits, not forgery.
    """
    by_voter: dict[str, pathlib.Path] = {}
    ballots = [_read_ballot(path, key) for path in paths]
    for ballot, path in zip(ballots, paths, strict=True):
        other = by_voter.setdefault(ballot.voter, path)
        if other is not path:
            raise ValueError(
                f"{other} and {path} are of the same voter; pass only the later one."
            )
    return ballots


def checksum(study: str, voter: str, votes: Sequence[Sequence[str]]) -> str:
    """The checksum of a voter's file, as the page writes it."""
    lines = [f"{name} {choice}\n" for name, choice in votes]
    text = "".join([f"{study}\n{voter}\n", *lines])
    return f"{zlib.crc32(text.encode()):08x}"


def _choose(
    evaluated: Sequence[EvalResult], methods: Sequence[str], questions: int, seed: int
) -> list[Question]:
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
    return sorted(chosen, key=lambda question: order[KINDS.index(question["kind"])])


def _of_pair(
    evaluated: Sequence[EvalResult],
    kind: str,
    pair: tuple[str, str],
    share: int,
    rng: np.random.Generator,
) -> list[Question]:
    """`share` questions, spread over subjects, each method on either side as often."""
    one, other = (
        {result.subject: result.samples for result in evaluated if result.method == m}
        for m in pair
    )
    common = {  # samples that both methods have pictures of
        name: [sample for sample in one[name] if sample in set(other[name])]
        for name in one
        if name in other
    }
    total = sum(map(len, common.values()))
    if share > total:
        raise ValueError(
            f"{pair[0]} and {pair[1]} share {total} pictures of the same prompt, seed "
            f"and index, but {share} are needed: use fewer --questions."
        )
    names = [list(common)[i] for i in rng.permutation(len(common))]
    shuffled = [[common[n][i] for i in rng.permutation(len(common[n]))] for n in names]
    drawn = [
        (name, sample)
        for turn in itertools.zip_longest(*shuffled)
        for name, sample in zip(names, turn, strict=True)
        if sample is not None
    ][:share]
    swapped = rng.permutation(np.arange(share) + rng.integers(2)) % 2
    questions = []
    for (name, sample), swap in zip(drawn, swapped, strict=True):
        left, right = reversed(pair) if swap else pair
        sides = {"subject": name, "left": left, "right": right}
        questions.append({"kind": kind, **sides, **sample._asdict()})
    return questions


def _read_ballot(path: pathlib.Path, key: Mapping[str, Any]) -> Ballot:
    record = _read_json(path)
    if record.get("format") != _VOTES:
        raise ValueError(f"{path} has no votes of the format {_VOTES!r}.")
    if record.get("study") != key["study"]:
        raise ValueError(f"{path} has votes of another study than the key's.")
    votes, voter = record.get("votes", []), str(record.get("voter"))
    try:
        checked = checksum(record["study"], voter, votes)
    except (TypeError, ValueError):
        raise ValueError(f"{path} was edited: its votes are not pairs.")
    if record.get("sum") != checked:
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
        record = files.read_json(path)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a study's file: it is not a JSON object.")
    return record


def digest_of(record: Mapping[str, Any]) -> str:
    """The digest of a key, without its own "study"."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return files.digest(text, length=32)
