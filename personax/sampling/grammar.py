"""The parsers of terms, weight schedules, search axes and edit windows.

term      [MODEL@]WEIGHT:PROMPT          face@1.5:wearing glasses
weight    A, A>B, A[LOW,HIGH], or a sum  1+2>0[0.2,0.8]
axis      [MODEL@]FROM..TO[/STEP]:PROMPT face@1..2/0.5:
windows   SHARE, FROM,TO, or by word     default=0.8,hat=0.2:0.6
"""

import math
import re

from personax.diffusion.alignment import DEFAULT, Window, check_window
from personax.diffusion.guidance_schedule import Piece, Schedule
from personax.sampling.options import finite
from personax.sampling.prompt_terms import Axis, TermSpec

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PIECE = re.compile(rf"({_NUMBER})(?:>({_NUMBER}))?(?:\[({_NUMBER}),\s*({_NUMBER})\])?")
_TERM = re.compile(r"(?:([^@:]+)@)?([^@:]+):(.*)", re.DOTALL)
_AXIS = re.compile(
    r"(?:([^@:]+)@)?([^@:]+?)\.\.([^@:/]+)(?:/([^@:]+))?:(.*)", re.DOTALL
)
_STEP = 0.25  # Cao et al. 2023
_MOST = 10_000  # weights of an axis


def parse_term(text: str) -> TermSpec:
    """The term "[MODEL@]WEIGHT:PROMPT", split at the first colon.

    The prompt may be empty; see `parse_weight` for weights that change over the steps.
    Raises ValueError for another form.

    >>> parse_term("face@1.5:wearing glasses: round ones")
    TermSpec(prompt='wearing glasses: round ones', weight=1.5, model='face')
    """
    form = (
        f'The term {text!r} is not of the form "[MODEL@]WEIGHT:PROMPT", such as '
        '"3:a dog" or "face@1.5:".'
    )
    match = _TERM.fullmatch(text)
    if not match:
        raise ValueError(form)
    model, weight, prompt = match.groups()
    try:
        return TermSpec(prompt.strip(), parse_weight(weight), model or "base")
    except ValueError as error:
        raise ValueError(f"{form} {error}")


def parse_weight(text: str) -> float | Schedule:
    """The weight "3", "1.5>0.5", "2.5[0.2,0.8]", "3>1[0,0.5]" or a sum of these.

    "A>B" is linear from A in the first step to B in the last; "[LOW,HIGH]" is the share
    of the steps in which a piece applies, and elsewhere it is 0. Raises ValueError for
    another form.

    >>> str(parse_weight("1+2>0[0.2,0.8]"))
    '1+2>0[0.2,0.8]'
    """
    pieces, at = [], 0
    text = text.strip()
    while at < len(text) or not pieces:
        match = _PIECE.match(text, at)
        # Pieces are summed: each after the first begins with its sign.
        if not match or (at and text[at] not in "+-"):
            raise ValueError(
                f"Invalid weight {text!r}; expected a number, A>B, either with "
                "[LOW,HIGH], or a sum of these, such as 2.5, 1.5>0.5 or 1+2[0.2,0.8]."
            )
        pieces.append(_piece(text, *match.groups()))
        at = match.end()
    if all(piece.constant for piece in pieces):
        return sum(piece.first for piece in pieces)
    return Schedule(tuple(pieces))


def _piece(text: str, first: str, last: str | None, *share: str | None) -> Piece:
    low, high = share
    begin, end = float(low or 0), float(high or 1)
    if not 0 <= begin < end <= 1:
        raise ValueError(
            f"[{begin:g},{end:g}] in the weight {text!r} is not a share of the steps; "
            "expected 0 <= LOW < HIGH <= 1."
        )
    piece = Piece(float(first), float(last or first), begin, end)
    if not finite(piece.first, piece.last):
        raise ValueError(f"The weight {text!r} is too large.")
    return piece


def parse_axis(text: str) -> Axis:
    """The search axis "[MODEL@]FROM..TO[/STEP]:PROMPT"; STEP is 0.25 by default.

    Raises ValueError for another form.

    >>> parse_axis("face@1..2/0.5:")
    Axis(prompt='', model='face', values=(1.0, 1.5, 2.0))
    """
    match = _AXIS.fullmatch(text)
    try:
        model, *numbers, prompt = match.groups()  # type: ignore[union-attr]
        first, last, step = (float(x) for x in (*numbers[:2], numbers[2] or _STEP))
    except (AttributeError, ValueError):
        model, prompt, (first, last, step) = None, "", (math.nan, 0.0, _STEP)
    span = (last - first) / step if step > 0 else math.nan
    if not (first <= last and math.isfinite(span) and finite(first, last)):
        raise ValueError(
            f'The axis {text!r} is not of the form "[MODEL@]FROM..TO[/STEP]:PROMPT" '
            'with FROM <= TO, such as "face@0.5..3:" or "0..5/0.5:a dog".'
        )
    count = int((last - first) / step + 1e-6) + 1
    if count > _MOST:
        raise ValueError(
            f"The axis {text!r} has {count:,} weights, more than {_MOST:,}; give it a "
            'larger STEP, as in "0..5/0.5:a dog".'
        )
    values = tuple(round(first + i * step, 6) for i in range(count))
    return Axis(prompt.strip(), model or "base", values)


def parse_window(text: str) -> Window:
    """The window "SHARE" or "FROM,TO" of the steps.

    Raises ValueError for another form, or bounds outside [0, 1].
    """
    first, *last = parse_numbers(text)
    return check_window((first, last[0]) if last else first)


def parse_windows(text: str) -> dict[str, Window]:
    """{word or DEFAULT: window} of "SHARE", "FROM,TO" or "WORD=SHARE,WORD=FROM:TO".

    >>> parse_windows("default=1.0,hat=0.2:0.6")
    {'default': 1.0, 'hat': (0.2, 0.6)}
    """
    if "=" not in text:
        return {DEFAULT: parse_window(text)}
    windows = {}
    for part in text.split(","):
        word, _, window = part.rpartition("=")
        if not word:
            raise ValueError(f"{text!r} is not of the form WORD=SHARE,WORD=FROM:TO.")
        windows[word.strip()] = parse_window(window.replace(":", ","))
    return windows


def parse_factor(text: str) -> tuple[str, float]:
    """(word, factor) of "WORD=FACTOR"."""
    word, _, factor = text.rpartition("=")
    try:
        value = float(factor)
    except ValueError:
        value = math.nan
    if not word or not finite(value):
        raise ValueError(f"{text!r} is not of the form WORD=FACTOR, such as hat=2.")
    return word, value


def parse_numbers(text: str) -> list[float]:
    """The number, or the two numbers, in "0.3" or "0.2,0.8"."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise ValueError(f"{text!r} is not a number or two, such as 0.2,0.8.")
    return numbers
