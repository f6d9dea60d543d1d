"""A look at a pickle's opcodes before it is run: what it would allocate and nest.

Python's unpickler is safe from code by what `find_class` resolves, not from programs
that ask for a memo of 2^31 entries, or nest tuples until hashing one overflows the C
stack, which ends the process.
"""

import io
import pickle
import pickletools
from typing import Any

_MAX_OPCODES = 3 * 10**6  # some seconds
_MAX_DEPTH = 64  # of tuples, which are hashed by recursion
_PUT = ("PUT", "BINPUT", "LONG_BINPUT")
_GET = ("GET", "BINGET", "LONG_BINGET")
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")


class _Bounded:
    """A file whose reads are no longer than what is left of it."""

    def __init__(self, file: io.BufferedIOBase, size: int):
        self._file, self._size = file, size

    def tell(self) -> int:
        return self._file.tell()

    def read(self, count: int) -> bytes:
        return self._file.read(min(count, max(0, self._size - self._file.tell())))

    def readline(self) -> bytes:
        return self._file.readline(2**20)


def check_pickle(file: io.BufferedIOBase, size: int) -> None:
    """UnpicklingError for a program that is not worth its run; `size` is the file's.

    The file is left where it was. A memo index has to be below the number of opcodes,
    as those of every pickler are, and no tuple may be nested deeper than 64.
    """
    start = file.tell()
    stack: list[int | None] = []  # the depth of tuples of each value; None is a mark
    memo: dict[int, int] = {}
    # Reads of bytes in memory are bounded already, and quicker.
    whole = isinstance(file, io.BytesIO)
    source: Any = file if whole else _Bounded(file, size)
    ops = pickletools.genops(source)
    argument: Any
    for number, (opcode, argument, _) in enumerate(ops):
        name = opcode.name
        index = len(memo) if name == "MEMOIZE" else argument
        if number >= _MAX_OPCODES:
            raise pickle.UnpicklingError("its pickle has too many opcodes")
        if name in (*_PUT, "MEMOIZE"):
            if not 0 <= index <= number or not stack:
                raise pickle.UnpicklingError("its pickle has a memo without bounds")
            memo[index] = stack[-1] or 0
        elif name in _GET:
            stack.append(memo.get(argument, 0))
        elif name == "DUP":
            stack.append(stack[-1] if stack else 0)
        elif name == "MARK":
            stack.append(None)
        else:
            depth = _pop(stack, opcode) + (name in _TUPLES)
            if depth > _MAX_DEPTH:
                raise pickle.UnpicklingError("its pickle has tuples nested too deeply")
            if name not in ("STOP", "POP", "POP_MARK"):
                count = sum(x is not pickletools.markobject for x in opcode.stack_after)
                stack += [depth] * count
    file.seek(start)


def _pop(stack: list[int | None], opcode: pickletools.OpcodeInfo) -> int:
    """The greatest depth of the values that an opcode takes off the stack."""
    popped: list[int] = []
    before = opcode.stack_before
    if pickletools.markobject in before:
        while stack and (top := stack.pop()) is not None:
            popped.append(top)
        before = before[: before.index(pickletools.markobject)]
    for _ in before:
        popped.append((stack.pop() if stack else 0) or 0)
    return max(popped, default=0)
