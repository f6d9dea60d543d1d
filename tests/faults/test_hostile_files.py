"""Adapters, checkpoints and concepts that are damaged or hostile: one line, bounded.

Each is read in a process that may have 4 GB, in seconds.
"""

import json
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from personax.concepts import artifact
from personax.concepts.bind import from_base
from personax.loading.pickles import open_pickle
from personax.loading.stored import check_finite, open_safetensors
from tests.untrained import save_dog

pytestmark = pytest.mark.quick

_PROTOCOL = b"\x80\x02"


def _program(*opcodes):
    return _PROTOCOL + b"".join(opcodes) + b"."


PICKLES = {
    "a memo of 2^31": _program(b"}", b"r" + struct.pack("<I", 2**31 - 1)),
    "a memo of 2^31 by text": _program(b"}", b"p2147483647\n"),
    "bytes of 2^40": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.",
    "text of 2^40": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "a frame of 2^40": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"}.",
    "a number of 2^30 digits": _program(b"\x8b" + struct.pack("<i", 2**30)),
    "a key of 10^6 tuples": _program(b"}", b")", b"\x85" * 10**6, b"K\x01", b"s"),
    "10^5 lists": _program(b"]" * 10**5, b"a" * (10**5 - 1)),
    "10^5 marks": _program(b"(" * 10**5),
    "a function that is changed": _program(
        b"c_codecs\nencode\n", b"N}(X\x0c\x00\x00\x00__defaults__K\x01u\x86b"
    ),
    "a list that contains itself": _program(b"]", b"q\x00", b"h\x00", b"a"),
    "an int that is no program": b"I12\n",
    "a storage that is no name": _program(b"K\x01", b"Q"),
}


def _read_apart(path):
    """What a process with 4 GB says of a file."""
    code = (
        "import pathlib, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))\n"
        "from personax.loading.files import open_file\n"
        "try:\n"
        "    open_file(pathlib.Path(sys.argv[1]), allow_pickle=True)\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    (line,) = done.stdout.splitlines()
    assert str(path) in line
    return line


def _zipped(path, program, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", program)
        for name, data in entries.items():
            archive.writestr(f"archive/{name}", data)
    return path


@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_is_one_line(name, tmp_path):
    path = _zipped(tmp_path / "x.ckpt", PICKLES[name])
    with pytest.raises(ValueError, match=r"x\.ckpt") as caught:
        open_pickle(path)
    assert "\n" not in str(caught.value)


def test_a_hostile_pickle_takes_no_memory(tmp_path):
    for name in ("a memo of 2^31", "bytes of 2^40", "a key of 10^6 tuples"):
        _read_apart(_zipped(tmp_path / "x.ckpt", PICKLES[name]))
        old = tmp_path / "old.ckpt"  # the layout before torch 1.6
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
        old.write_bytes(magic + PICKLES[name])
        _read_apart(old)


def test_a_pickle_that_is_a_decompression_bomb_is_refused(tmp_path):
    path = _zipped(tmp_path / "x.ckpt", _PROTOCOL + b"0" * 2**28)
    assert path.stat().st_size < 2**20
    assert "its pickle has 268,435,458 bytes" in _read_apart(path)


def test_dictionaries_that_share_each_other_are_refused(tmp_path):
    # Each of 30 levels has the next one twice: 2^30 names.
    levels = [b"}q\x00"]
    for level in range(1, 31):
        level_ = struct.pack("B", level - 1)
        levels += [b"}(", b"U\x01a", b"h" + level_, b"U\x01b", b"h" + level_, b"u"]
        levels += [b"q" + struct.pack("B", level)]
    leaf = b"ctorch._utils\n_rebuild_tensor_v2\n"
    storage = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQ"
    tensor = leaf + storage + b"K\x00(K\x01t(K\x01t\x89}tR"
    levels[0] = b"}(U\x01t" + tensor + b"uq\x00"
    path = tmp_path / "x.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _program(*levels))
        archive.writestr("archive/data/0", b"1234")
    with pytest.raises(ValueError, match=r"x\.ckpt has more than 100,000 tensors"):
        open_pickle(path)


def _header(entries, body=b"", length=None):
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def _tensor(shape, first, last, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


SAFETENSORS = {
    "a header of 2^60 bytes": _header({}, length=2**60),
    "a header cut off": _header({"a": _tensor([1], 0, 4)})[:-3],
    "100 GB claimed": _header({"a": _tensor([2**36], 0, 2**38)}, b"1234"),
    "a shape of 2^64": _header({"a": _tensor([2**64], 0, 4)}, b"1234"),
    "a negative shape": _header({"a": _tensor([-1, -1], 0, 4)}, b"1234"),
    "a shape that is no number": _header({"a": _tensor([1.0], 0, 4)}, b"1234"),
    "a shape that is true": _header({"a": _tensor([True], 0, 4)}, b"1234"),
    "two tensors at one place": _header(
        {"a": _tensor([1], 0, 4), "b": _tensor([1], 0, 4)}, b"1234"
    ),
    "bytes of no tensor": _header({"a": _tensor([1], 4, 8)}, b"12345678"),
    "two tensors of one name": _header(
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, '
        b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
        b"12345678",
    ),
    "a header that is no UTF-8": _header(b'{"\xff": 1}'),
    "a header nested deeply": _header(b'{"a":' * 10**5),
    "a shape that is an object": _header({"a": _tensor({}, 0, 4)}, b"1234"),
    "a dtype that is a list": _header({"a": _tensor([1], 0, 4, ["F32"])}, b"1234"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_hostile_safetensors_file_is_one_line(name, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(SAFETENSORS[name])
    with pytest.raises(ValueError, match=r"x\.safetensors") as caught:
        open_safetensors(path)
    assert "\n" not in str(caught.value)


def test_a_tensor_of_no_numbers_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(
        _header({"a": _tensor([0, 4], 0, 0), "b": _tensor([1], 0, 4)}) + b"1234"
    )
    assert open_safetensors(path)["a"].shape == (0, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_numbers_that_are_not_finite_are_named(value, dtype):
    tensor = np.zeros((3, 2**20), dtype)
    check_finite("x.safetensors", {"a": tensor})
    tensor[2, 5] = value
    with pytest.raises(ValueError, match="the tensor a has NaN"):
        check_finite("x.safetensors", {"a": tensor})


@pytest.fixture(scope="module")
def concept(emoji, tmp_path_factory):
    return save_dog(tmp_path_factory.mktemp("hostile") / "concept", emoji)


def _edited(concept, folder, **changes):
    folder.mkdir()
    for file in concept.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    about = json.loads((folder / "concept.json").read_text()) | changes
    about = {key: value for key, value in about.items() if value is not ...}
    (folder / "concept.json").write_text(json.dumps(about))
    return folder


CONCEPT = {"placeholder": "<v1>", "class_word": "dog", "ids": [5], "initial": [5]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fingerprint": ...}, "has no 'fingerprint'"),
        ({"method": ...}, "has no 'method'"),
        ({"base": 3}, "has another type of 'base'"),
        ({"method": "loar"}, "concept.json: Unknown method"),
        ({"method_args": {"rnak": 3}}, "concept.json: "),
        ({"concepts": [{}]}, "concepts that are damaged"),
        ({"concepts": [3]}, "concepts that are damaged"),
        ({"concepts": [CONCEPT | {"ids": ["5"]}]}, "concepts that are damaged"),
        ({"concepts": [CONCEPT | {"ids": [2**63]}]}, "concepts that are damaged"),
        ({"before": [{"": 1}]}, "concepts that are damaged"),
        ({"before": [3]}, "concepts that are damaged"),
        ({"concepts": [CONCEPT | {"other": 1}]}, "concepts that are damaged"),
        ({"concepts": [CONCEPT | {"placeholder": 1}]}, "concepts that are damaged"),
    ],
)
def test_an_edited_concept_is_one_line(emoji, concept, tmp_path, changes, sentence):
    folder = _edited(concept, tmp_path / "edited", **changes)
    params = from_base(emoji).denoiser.params
    with pytest.raises(ValueError, match=sentence) as caught:
        artifact.load(folder, params, emoji.fingerprint)
    assert "edited" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_concept_with_a_nan_is_refused_when_it_is_read(emoji, concept, tmp_path):
    folder = _edited(concept, tmp_path / "edited")
    leaves = load_file(folder / "theta.safetensors")
    name = max(leaves)
    leaves[name].flat[0] = np.nan
    save_file(leaves, folder / "theta.safetensors")
    params = from_base(emoji).denoiser.params
    with pytest.raises(ValueError, match=f"{name} has NaN or infinite numbers"):
        artifact.load(folder, params, emoji.fingerprint)
