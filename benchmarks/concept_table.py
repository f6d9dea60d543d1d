"""The table of `benchmarks.concept_centric`, from its row.json files."""

import json
import pathlib
from collections.abc import Sequence

from benchmarks.attributes import HEADS

_COLUMNS = ("row", "trains", "w", "FD", "w, asked", "FD, asked")
_SHARES = ("worn", "place", "colour", "all", "of the set", "both", "edges")


def table(out: pathlib.Path, sets: Sequence[str], rows: Sequence[str]) -> str:
    """The Markdown table of the finished rows, a part for each set."""
    parts = []
    for which in sets:
        lines = [f"**{which}**", "", f"| {' | '.join((*_COLUMNS, *_SHARES))} |"]
        lines.append("|---" * len((*_COLUMNS, *_SHARES)) + "|")
        for name in rows:
            path = out / which / name / "row.json"
            if path.is_file():
                lines.append(f"| {' | '.join(_cells(json.loads(path.read_text())))} |")
        parts.append("\n".join(lines))
    note = "Shares: by the classifier / by CLIP zero-shot."
    return "\n\n".join([*parts, note]) + "\n"


def _cells(row: dict) -> list[str]:
    def weights(key: str) -> str:
        return ", ".join(f"{w:g}" for w in row.get(key, ()))

    def both(share: dict) -> str:
        return f"{share['shown']:.2f} / {share['clip']:.2f}"

    trains = f"{row['trains']:,}" if row.get("trains") else ""
    cells = [row["title"], trains, weights("plain"), f"{row['fd']:.2f}"]
    cells += [weights("asked"), f"{row['fd_asked']:.2f}"]
    cells += [both(row[each]) for each in (*HEADS, "all")]
    cells += [f"{row['all'][each]:.2f}" for each in ("member", "both")]
    return [*cells, f"{row['edges']:.2f}" if "edges" in row else ""]
