"""Win rates of a preference study's votes, with confidence intervals."""

import csv
import itertools
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from personax.core import files
from personax.evaluation.preference_study import KINDS, Ballot

_LEVEL = 0.95


class Rate(NamedTuple):
    """How often one method was preferred to another; a tie is half a win.

    (low, high) is Wilson's interval over votes, as if all were independent,
    (voters_low, voters_high) the percentile bootstrap's over voters, None for a single
    voter.
    """

    kind: str
    method: str
    against: str
    wins: int
    ties: int
    losses: int
    rate: float
    low: float
    high: float
    voters_low: float | None = None
    voters_high: float | None = None


def score(
    key: Mapping[str, Any],
    ballots: Sequence[Ballot],
    *,
    seed: int = 0,
    rounds: int = 10_000,
) -> list[Rate]:
    """The rate of every kind of question and pair of methods with votes."""
    questions = {question["id"]: question for question in key["questions"]}
    rates = []
    for kind in KINDS:
        for pair in itertools.combinations(key["methods"], 2):
            counts = np.array([_count(each, questions, kind, pair) for each in ballots])
            wins, ties, losses = map(int, counts.sum(axis=0))
            votes = wins + ties + losses
            if not votes:
                continue
            rate = (wins + ties / 2) / votes
            intervals = wilson(rate, votes)
            if len(ballots) > 1:
                intervals += _bootstrap(counts, seed, rounds)
            rates.append(Rate(kind, *pair, wins, ties, losses, rate, *intervals))
    return rates


def wilson(rate: float, n: int, level: float = _LEVEL) -> tuple[float, float]:
    """The score interval of a proportion of n independent votes (Wilson 1927)."""
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    variance = rate * (1 - rate) / n + z * z / (4 * n * n)
    half = z * variance**0.5 / (1 + z * z / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def to_text(rates: Sequence[Rate]) -> str:
    """A table with a line per rate, in percent."""
    voters = any(rate.voters_low is not None for rate in rates)
    head = ["better by", "method", "against", "wins", "ties", "losses", "win rate"]
    lines = [[*head, "95 %", *(["95 %, voters"] if voters else [])]]
    for rate in rates:
        counts = [str(count) for count in (rate.wins, rate.ties, rate.losses)]
        line = [rate.kind, rate.method, rate.against, *counts]
        ends = [f"{100 * end:.1f}" for end in rate[7:] if end is not None]
        intervals = map(" to ".join, zip(ends[::2], ends[1::2], strict=True))
        lines.append([*line, f"{100 * rate.rate:.1f} %", *intervals])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def summary(key: Mapping[str, Any], ballots: Sequence[Ballot]) -> str:
    """A sentence with the number of votes and the kinds of intervals."""
    questions = len(key["questions"]) * len(ballots)
    over_voters = ", and bootstrap over voters" if len(ballots) > 1 else ""
    return (
        f"{_votes(ballots)} votes of {questions}, voters: {len(ballots)}. A tie is "
        f"half a win. 95 % intervals: Wilson over votes{over_voters}."
    )


def write_csv(path: pathlib.Path, rates: Sequence[Rate]) -> None:
    """Write a line per rate; missing values are empty."""
    with files.atomic_write(path) as temporary, temporary.open("w") as file:
        csv.writer(file, lineterminator="\n").writerows([Rate._fields, *rates])


def write_json(
    path: pathlib.Path,
    key: Mapping[str, Any],
    ballots: Sequence[Ballot],
    rates: Sequence[Rate],
) -> None:
    """Write the rates with the study's id and the number of voters and votes."""
    about = {"study": key["study"], "voters": len(ballots), "votes": _votes(ballots)}
    record = about | {"ties": "half a win", "level": _LEVEL}
    files.write_json(path, record | {"rates": [rate._asdict() for rate in rates]})


def _votes(ballots: Sequence[Ballot]) -> int:
    return sum(len(ballot.choices) for ballot in ballots)


def _count(
    ballot: Ballot,
    questions: Mapping[str, Mapping[str, Any]],
    kind: str,
    pair: tuple[str, str],
) -> list[int]:
    """A voter's [wins, ties, losses] of the first method of the pair."""
    counts: dict[str | None, int] = {pair[0]: 0, None: 0, pair[1]: 0}
    for name, choice in ballot.choices.items():
        question = questions[name]
        sides = {question["left"], question["right"]}
        if question["kind"] == kind and sides == set(pair):
            counts[None if choice == "tie" else question[choice]] += 1
    return list(counts.values())


def _bootstrap(
    counts: Int[np.ndarray, "voters 3"], seed: int, rounds: int
) -> tuple[float, float]:
    """The central 95 % of rates when voters are resampled with replacement."""
    rng = np.random.default_rng(seed)
    drawn = counts[rng.integers(len(counts), size=(rounds, len(counts)))].sum(axis=1)
    drawn = drawn[drawn.sum(axis=1) > 0]
    rates = (drawn[:, 0] + drawn[:, 1] / 2) / drawn.sum(axis=1)
    low, high = np.percentile(rates, (2.5, 97.5))
    return float(low), float(high)
