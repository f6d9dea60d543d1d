"""Mutations of files: bits, blocks, numbers, and values inside of known formats."""

import io
import json
import random
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

LARGEST = 2**20  # bytes of a mutated file

_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 7, 2**31, 2**32, 2**63, 2**64, 10**30, -(2**63)),
    *(0.5, 1e-300, 1e300, float("nan"), float("inf"), -float("inf")),
    *("", "x", "\0", "\n", "<v1>", "..", "../../x", "/", "~nobody/x", "é" * 300, "{}"),
    *([], [[]], [1], ["x"], [None], {}, {"x": 1}, {"": {}}),
)
_WORDS = (
    *(b"nan", b"inf", b"-1", b"0", b"1e999", b"1e-400", b"0x10", b"null", b"true"),
    *(b"9" * 30, b"9" * 5000, b"''", b'"', b"{", b"}", b"[", b"]", b":", b"-", b"#"),
    *(b"{}", b"[]", b"[" * 20_000, b'{"a":' * 20_000, b"\0", b"\xff", b"\xef\xbb\xbf"),
    *(
        b"\r\n",
        b"\n\n",
        b"\t",
        b",",
        b",,",
        b"\xe2\x80\xa8",
        b"&a",
        b"*a",
        b"!!x",
        b"|",
    ),
    *(b"../x", b"/", b"x" * 5000, b"{0}", b"{1}", b"<v1>", b"\xf0\x9f\x98\x80"),
)
_WORD = re.compile(rb"[\w.+-]+|[^\w\s]")


def mutate(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """`data` with one to eight changes, at most LARGEST bytes.

    Half of the changes of a file of a known format are inside of it, so that what
    follows its checksums is reached too. `others` are files to take blocks from.
    """
    inner = _inside(data, rng, others) if rng.random() < 0.5 else None
    if inner is not None:
        return inner[:LARGEST]
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        data = rng.choice(_BLIND)(data, rng, others)[:LARGEST]
    return data


def _flip(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _flips in range(min(len(data), rng.choice((1, 1, 2, 8)))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    return data[: rng.randint(0, len(data))]


def _number(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    """A number that tends to be a limit, in 1 to 8 bytes of either order."""
    size = rng.choice((1, 2, 4, 8))
    number = rng.choice(_NUMBERS) % 256**size
    at = rng.randint(0, max(0, len(data) - size))
    order = rng.choice(("little", "big"))
    return data[:at] + number.to_bytes(size, order) + data[at + size :]


def _delete(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    first, last = _span(data, rng)
    return data[:first] + data[last:]


def _repeat(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    first, last = _span(data, rng)
    return data[:first] + data[first:last] * rng.choice((2, 3, 50)) + data[last:]


def _insert(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.randbytes(rng.choice((1, 4, 64))) + data[at:]


def _splice(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    first, last = _span(other, rng)
    at = rng.randint(0, len(data))
    return data[:at] + other[first:last] + data[rng.randint(at, len(data)) :]


def _word(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes:
    """A word or a sign replaced, or one added."""
    found = list(_WORD.finditer(data, 0, 10_000))
    first, last = rng.choice(found).span() if found else (0, 0)
    first = rng.choice((first, last))
    return data[:first] + rng.choice(_WORDS) + data[last:]


_BLIND = (_flip, _flip, _truncate, _number, _delete, _repeat, _insert, _splice, _word)


def _span(data: bytes, rng: random.Random) -> tuple[int, int]:
    first = rng.randint(0, len(data))
    return first, min(len(data), first + rng.choice((1, 4, 16, 256, 4096)))


def _inside(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes | None:
    """A change inside of a file of a known format, None for any other file."""
    for change in (_png, _zip, _tar, _safetensors, _json, _lines, _deflated):
        try:
            changed = change(data, rng, others)
        except (ValueError, KeyError, IndexError, OSError, RecursionError):
            continue
        if changed is not None:
            return changed
    return None


def _png(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes | None:
    """One chunk changed, with its checksum."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    which = rng.randrange(len(chunks))
    kind, body = chunks[which]
    chunks[which] = kind, _blind(body, rng, others)
    parts = [data[:8]]
    for kind, body in chunks:
        checksum = zlib.crc32(kind + body)
        parts.append(struct.pack(">I", len(body)) + kind + body)
        parts.append(struct.pack(">I", checksum))
    return b"".join(parts)


def _zip(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes | None:
    """One member changed, with its checksum."""
    if not data.startswith(b"PK"):
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            members = {info: source.read(info) for info in source.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, zlib.error):
        return None
    chosen, target = rng.choice(list(members)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for info, body in members.items():
            if info is chosen:
                body = mutate(body, rng, others)
            archive.writestr(info.filename, body, info.compress_type)
    return target.getvalue()


def _tar(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes | None:
    """One header or one file changed, with the header's checksum."""
    if data[257:262] != b"ustar":
        return None
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    chosen = rng.choice(members)
    start, body = chosen.offset, chosen.offset_data
    if rng.random() < 0.5:
        end = body + chosen.size
        return data[:body] + _flip(data[body:end], rng, others) + data[end:]
    header = bytearray(_flip(data[start : start + 512], rng, others))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[:start] + bytes(header) + data[start + 512 :]


def _safetensors(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes | None:
    """One value of the header changed, with its length."""
    length = int.from_bytes(data[:8], "little")
    if length > len(data) or data[8:9] != b"{":
        return None
    header = _value(json.loads(data[8 : 8 + length]), rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _json(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes | None:
    return json.dumps(_value(json.loads(data), rng)).encode()


def _lines(data: bytes, rng: random.Random, _: Sequence[bytes]) -> bytes | None:
    """One value of one line of JSON changed."""
    lines = data.splitlines()
    which = rng.randrange(len(lines))
    lines[which] = json.dumps(_value(json.loads(lines[which]), rng)).encode()
    return b"\n".join(lines) + b"\n"


def _deflated(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes | None:
    try:
        inner = zlib.decompress(data)
    except zlib.error:
        return None
    return zlib.compress(mutate(inner, rng, others))


def _blind(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    change: Callable[..., bytes] = rng.choice(_BLIND)
    return change(data, rng, others)


def _value(value: Any, rng: random.Random) -> Any:
    """A JSON value of which one part is replaced, removed or added."""
    inner = list(value.items()) if isinstance(value, dict) else []
    inner = list(enumerate(value)) if isinstance(value, list) else inner
    if not inner or rng.random() < 0.15:
        return rng.choice(_VALUES)
    changed = dict(value) if isinstance(value, dict) else list(value)
    key, child = rng.choice(inner)
    action = rng.random()
    if action < 0.1:
        del changed[key]
    elif action < 0.2 and isinstance(changed, list):
        changed.insert(key, rng.choice(_VALUES))
    elif action < 0.2 and isinstance(changed, dict):
        changed[rng.choice(("x", "", "format", f"{key} "))] = rng.choice(_VALUES)
    else:
        changed[key] = _value(child, rng)
    return changed
