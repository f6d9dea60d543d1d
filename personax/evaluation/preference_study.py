"""A blind preference study: the page that asks, its key, and what the votes say."""

import hashlib
import itertools
import json
import pathlib
import statistics
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from personax.core.images import Pixels
from personax.evaluation.page import data_uri, fill, pictures_of, reduced, tiles
from personax.evaluation.results import Cell, Shot

KINDS = ("subject", "text")  # which shows the subject better, which fits the text
CHOICES = ("left", "right", "tie")
_KEY, _VOTES = "personax study 1", "personax votes 1"


class Question(NamedTuple):
    """Two methods' pictures of one shot, beside each other."""

    kind: str  # one of KINDS
    subject: str
    shot: Shot
    left: str  # a method
    right: str


class Ballot(NamedTuple):
    """What one voter chose."""

    voter: str
    choices: Mapping[str, str]  # {a question's id: one of CHOICES}


class Rate(NamedTuple):
    """How often one method was preferred to another; a tie is half a win.

    `interval` is Wilson's over votes, as if each were of its own voter. `by_voter` is
    the percentile bootstrap's over voters, None where there is but one.
    """

    kind: str
    method: str
    against: str
    wins: int
    ties: int
    losses: int
    rate: float
    interval: tuple[float, float]
    by_voter: tuple[float, float] | None


def build(
    page: pathlib.Path,
    cells: Sequence[Cell],
    *,
    out: pathlib.Path,
    methods: Sequence[str],
    references: Mapping[str, Sequence[Pixels]],
    questions: int = 40,
    seed: int = 0,
) -> pathlib.Path:
    """Writes the page and, beside it, the key, whose path comes back.

    Every pair of `methods` is asked about equally often, half of it for each of KINDS;
    a method stands left as often as right. The page has pictures, prompts and numbers
    of questions, but no method's name: that is what the key is for. Raises ValueError
    for methods that are not there, and where they share too few pictures of the same
    prompt, seed and index, or a subject has no references.
    """
    asked = _choose(cells, methods, questions, seed)
    subjects = sorted({each.subject for each in asked})
    shown = {name: pictures_of(name, references) for name in subjects}
    for name, pictures in shown.items():
        if not pictures:
            raise ValueError(f"The subject {name} has no reference pictures.")
    pairs = _pictures(asked, cells, out)
    names = [f"q{number:03}" for number in range(1, len(asked) + 1)]
    key = {
        "format": _KEY,
        "seed": seed,
        "methods": list(methods),
        "questions": list(map(_record, names, asked, pairs)),
    }
    key = {"study": _digest(key), **key}
    data = {
        "study": key["study"],
        "format": _VOTES,
        "questions": [
            {
                "id": name,
                "kind": question.kind,
                "prompt": question.shot.prompt,
                "subject": subjects.index(question.subject),
                "left": data_uri(left),
                "right": data_uri(right),
            }
            for name, question, (left, right) in zip(names, asked, pairs, strict=True)
        ],
        "references": [
            {
                "several": "+" in name,
                "pictures": [data_uri(reduced(p)) for p in shown[name]],
            }
            for name in subjects
        ],
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(fill("study", "Which picture is better?", data))
    path = page.with_suffix(".json")
    path.write_text(json.dumps(key, indent=2, ensure_ascii=False) + "\n")
    return path


def read_key(path: pathlib.Path) -> dict[str, Any]:
    """A study's key. ValueError where it is none, or is not as it was written."""
    key = _read_json(path)
    if key.get("format") != _KEY:
        raise ValueError(f"{path} is not the key of a study, which says {_KEY!r}.")
    if key.get("study") != _digest({k: v for k, v in key.items() if k != "study"}):
        raise ValueError(f"{path} was edited: it no longer fits its own digest.")
    return key


def read_ballots(paths: Sequence[pathlib.Path], key: Mapping[str, Any]) -> list[Ballot]:
    """The voters' files. ValueError for one that is foreign, edited or empty.

    The checksum finds slips of the hand; it is no protection from forgery.
    """
    found: dict[str, pathlib.Path] = {}
    ballots = []
    for path in paths:
        ballot = _read_ballot(path, key)
        if ballot.voter in found:
            raise ValueError(
                f"{found[ballot.voter]} and {path} are of the same voter; give the "
                f"later one alone."
            )
        found[ballot.voter] = path
        ballots.append(ballot)
    return ballots


def score(
    key: Mapping[str, Any],
    ballots: Sequence[Ballot],
    *,
    seed: int = 0,
    rounds: int = 10_000,
) -> list[Rate]:
    """A rate for each kind of question and pair of methods that was voted on."""
    questions = {each["id"]: each for each in key["questions"]}
    found = []
    for kind in KINDS:
        for pair in itertools.combinations(key["methods"], 2):
            counts = np.array([_count(each, questions, kind, pair) for each in ballots])
            wins, ties, losses = map(int, counts.sum(axis=0))
            votes = wins + ties + losses
            if not votes:
                continue
            rate = (wins + ties / 2) / votes
            by_voter = _bootstrap(counts, seed, rounds) if len(ballots) > 1 else None
            sides = wilson(rate, votes)
            found.append(Rate(kind, *pair, wins, ties, losses, rate, sides, by_voter))
    return found


def wilson(rate: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a share of n independent votes (Wilson 1927)."""
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    spread = rate * (1 - rate) / n + z * z / (4 * n * n)
    half = z * spread**0.5 / (1 + z * z / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _choose(
    cells: Sequence[Cell], methods: Sequence[str], questions: int, seed: int
) -> list[Question]:
    """The questions in the order of the page: all of one kind, then of the other."""
    known = list(dict.fromkeys(cell.method for cell in cells))
    for method in methods:
        if method not in known:
            raise ValueError(
                f"There is no method {method!r}; evaluated were: {', '.join(known)}."
            )
    if len(set(methods)) != len(methods) or len(methods) < 2:
        raise ValueError("A study compares at least two methods, each named once.")
    pairs = list(itertools.combinations(methods, 2))
    if questions < len(KINDS) * len(pairs):
        raise ValueError(
            f"{questions} questions are too few: each of {len(pairs)} pairs of methods "
            f"needs one of each of {len(KINDS)} kinds."
        )
    rng = np.random.default_rng(seed)
    parts = []
    groups = list(itertools.product(KINDS, pairs))
    for i, (kind, pair) in enumerate(groups):
        # 10 questions for 4 groups are 3, 2, 3 and 2.
        share = (i + 1) * questions // len(groups) - i * questions // len(groups)
        parts += _of_pair(cells, kind, pair, share, rng)
    parts = [parts[i] for i in rng.permutation(len(parts))]
    first = rng.permutation(len(KINDS))
    return sorted(parts, key=lambda each: first[KINDS.index(each.kind)])


def _of_pair(
    cells: Sequence[Cell],
    kind: str,
    pair: tuple[str, str],
    share: int,
    rng: np.random.Generator,
) -> list[Question]:
    """`share` questions, spread over the subjects, a method as often left as right."""
    common = _in_common(cells, pair)
    total = sum(map(len, common.values()))
    if share > total:
        raise ValueError(
            f"{pair[0]} and {pair[1]} share {total} pictures of the same prompt, seed "
            f"and index, and {share} are asked for: ask fewer questions."
        )
    names = [list(common)[i] for i in rng.permutation(len(common))]
    shuffled = [[common[n][i] for i in rng.permutation(len(common[n]))] for n in names]
    turns = itertools.zip_longest(*shuffled)
    drawn = [
        (name, shot)
        for turn in turns
        for name, shot in zip(names, turn, strict=True)
        if shot is not None
    ][:share]
    swapped = rng.permutation(np.arange(share) + rng.integers(2)) % 2
    return [
        Question(kind, name, shot, *(reversed(pair) if swap else pair))
        for (name, shot), swap in zip(drawn, swapped, strict=True)
    ]


def _in_common(cells: Sequence[Cell], pair: tuple[str, str]) -> dict[str, list[Shot]]:
    """{subject: the shots that both methods have pictures of}."""
    one, other = (
        {cell.subject: cell.shots for cell in cells if cell.method == method}
        for method in pair
    )
    return {
        name: [shot for shot in one[name] if shot in set(other[name])]
        for name in one
        if name in other
    }


def _pictures(
    asked: Sequence[Question], cells: Sequence[Cell], out: pathlib.Path
) -> list[tuple[Pixels, Pixels]]:
    """(left, right) of each question; a sheet is read once."""
    by_name = {cell.name: cell for cell in cells}
    names = {(side, each.subject) for each in asked for side in (each.left, each.right)}
    sheets = {name: tiles(out, by_name[name]) for name in names}

    def picture(method: str, question: Question) -> Pixels:
        name = method, question.subject
        return sheets[name][by_name[name].shots.index(question.shot)]

    return [(picture(each.left, each), picture(each.right, each)) for each in asked]


def _record(
    name: str, question: Question, pair: tuple[Pixels, Pixels]
) -> dict[str, Any]:
    """A question as the key has it."""
    pixels = hashlib.sha256(b"".join(each.tobytes() for each in pair))
    own = {key: value for key, value in question._asdict().items() if key != "shot"}
    mark = {"pictures": pixels.hexdigest()[:16]}
    return {"id": name, **own, **question.shot._asdict(), **mark}


def _read_ballot(path: pathlib.Path, key: Mapping[str, Any]) -> Ballot:
    record = _read_json(path)
    if record.get("format") != _VOTES:
        raise ValueError(f"{path} has no votes of a study, which say {_VOTES!r}.")
    if record.get("study") != key["study"]:
        raise ValueError(f"{path} has votes of another study than this key's.")
    votes, voter = record.get("votes", []), str(record.get("voter"))
    try:
        lines = [f"{name} {choice}\n" for name, choice in votes]
    except (TypeError, ValueError):
        raise ValueError(f"{path} was edited: its votes are not in pairs.")
    text = "".join([f"{record['study']}\n{voter}\n", *lines])
    if record.get("sum") != f"{zlib.crc32(text.encode()):08x}":
        raise ValueError(f"{path} was edited: its votes do not fit its checksum.")
    if not votes:
        raise ValueError(f"{path} has no votes yet.")
    ids, choices = {each["id"] for each in key["questions"]}, dict(votes)
    if not choices.keys() <= ids or not set(choices.values()) <= set(CHOICES):
        raise ValueError(f"{path} has votes on what this study does not ask.")
    return Ballot(voter, choices)


def _count(
    ballot: Ballot,
    questions: Mapping[str, Mapping[str, Any]],
    kind: str,
    pair: tuple[str, str],
) -> tuple[int, int, int]:
    """A voter's (wins, ties, losses) of the first of the pair."""
    chosen = list(_preferred(ballot, questions, kind, pair))
    return chosen.count(pair[0]), chosen.count(None), chosen.count(pair[1])


def _preferred(
    ballot: Ballot,
    questions: Mapping[str, Mapping[str, Any]],
    kind: str,
    pair: tuple[str, str],
) -> Iterator[str | None]:
    for name, choice in ballot.choices.items():
        question = questions[name]
        sides = {question["left"], question["right"]}
        if question["kind"] == kind and sides == set(pair):
            yield None if choice == "tie" else question[choice]


def _bootstrap(
    counts: Int[np.ndarray, "voters 3"], seed: int, rounds: int
) -> tuple[float, float]:
    """The middle 95 % of rates when voters are drawn with replacement."""
    rng = np.random.default_rng(seed)
    drawn = counts[rng.integers(len(counts), size=(rounds, len(counts)))].sum(axis=1)
    drawn = drawn[drawn.sum(axis=1) > 0]
    rates = (drawn[:, 0] + drawn[:, 1] / 2) / drawn.sum(axis=1)
    low, high = np.percentile(rates, (2.5, 97.5))
    return float(low), float(high)


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a file of a study: it holds no JSON object.")
    return found


def _digest(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
