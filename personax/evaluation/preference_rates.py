"""Win rates of a preference study's votes, with confidence intervals."""

import csv
import io
import itertools
import pathlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from personax.core import files
from personax.evaluation.preference_study import KINDS, Ballot

_LEVEL = 0.95


class Rate(NamedTuple):
    """How often one method was preferred to another; a tie is half a win.

    `interval` is Wilson's over votes, as if all were independent. `by_voter` is the
    percentile bootstrap's over voters, None for a single voter.
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
            by_voter = _bootstrap(counts, seed, rounds) if len(ballots) > 1 else None
            interval = wilson(rate, votes)
            rates.append(
                Rate(kind, *pair, wins, ties, losses, rate, interval, by_voter)
            )
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
    voters = any(rate.by_voter for rate in rates)
    head = ["better by", "method", "against", "wins", "ties", "losses", "win rate"]
    lines = [[*head, "95 %", *(["95 %, voters"] if voters else [])]]
    for rate in rates:
        counts = [str(count) for count in (rate.wins, rate.ties, rate.losses)]
        line = [rate.kind, rate.method, rate.against, *counts]
        line += [f"{100 * rate.rate:.1f} %", _percent(rate.interval)]
        lines.append(line + ([_percent(rate.by_voter)] if rate.by_voter else []))
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
    rows = list(map(_record, rates))
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, file.getvalue())


def write_json(
    path: pathlib.Path,
    key: Mapping[str, Any],
    ballots: Sequence[Ballot],
    rates: Sequence[Rate],
) -> None:
    """Write the rates with the study's id and the number of voters and votes."""
    about = {"study": key["study"], "voters": len(ballots), "votes": _votes(ballots)}
    record = about | {"ties": "half a win", "level": _LEVEL}
    files.write_json(path, record | {"rates": list(map(_record, rates))})


def _record(rate: Rate) -> dict[str, Any]:
    """A rate as the files have it, with None for missing values."""
    fields = rate._asdict()
    low, high = fields.pop("interval")
    voters_low, voters_high = fields.pop("by_voter") or (None, None)
    return fields | {
        "low": low,
        "high": high,
        "voters_low": voters_low,
        "voters_high": voters_high,
    }


def _votes(ballots: Sequence[Ballot]) -> int:
    return sum(len(ballot.choices) for ballot in ballots)


def _percent(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _count(
    ballot: Ballot,
    questions: Mapping[str, Mapping[str, Any]],
    kind: str,
    pair: tuple[str, str],
) -> tuple[int, int, int]:
    """A voter's (wins, ties, losses) of the first method of the pair."""
    preferred = list(_preferred(ballot, questions, kind, pair))
    return preferred.count(pair[0]), preferred.count(None), preferred.count(pair[1])


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
    """The central 95 % of rates when voters are resampled with replacement."""
    rng = np.random.default_rng(seed)
    drawn = counts[rng.integers(len(counts), size=(rounds, len(counts)))].sum(axis=1)
    drawn = drawn[drawn.sum(axis=1) > 0]
    rates = (drawn[:, 0] + drawn[:, 1] / 2) / drawn.sum(axis=1)
    low, high = np.percentile(rates, (2.5, 97.5))
    return float(low), float(high)
