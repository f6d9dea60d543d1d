"""The safetensors reader: every dtype, and what it says of a file that is none."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from personax.loading.stored import open_safetensors


@pytest.mark.parametrize(
    "dtype",
    ["f8", "f4", "f2", ml_dtypes.bfloat16, "i8", "i4", "i2", "i1", "u1", "?"],
    ids=str,
)
def test_tensors_are_read_in_their_dtype(dtype, tmp_path):
    tensors = {
        "odd": np.arange(3).astype(dtype),
        "matrix": (np.arange(6).reshape(2, 3) % 2).astype(dtype),
        "scalar": np.ones((), dtype),
        "empty": np.zeros((0, 4), dtype),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = open_safetensors(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


def test_nothing_is_read_before_it_is_used(tmp_path):
    save_file({"a": np.zeros((64, 64), "f4")}, tmp_path / "x.safetensors")
    tensor = open_safetensors(tmp_path / "x.safetensors")["a"]
    assert not tensor.flags.owndata
    assert not tensor.flags.writeable


def _file(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def _entry(**change) -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **change}
    return json.dumps({"a": entry}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a safetensors file: it has 0 bytes"),
        (
            b"PK\x03\x04 a zip file of torch",
            "not a safetensors file, or truncated inside",
        ),
        (b"version https://git-lfs.github.com/spec/v1", "not a safetensors file"),
        (_file(_entry(), b"1234"), "truncated: its header describes"),
        (_file(_entry())[:-9], "truncated inside its header"),
        (_file(_entry(), b"1" * 12), "damaged: its header describes"),
        (_file(_entry(shape=[3]), b"1" * 8), "a of shape .3,. does not fill"),
        (_file(_entry(data_offsets=[-8, 8]), b"1" * 8), "not a list of tensors"),
        (_file(_entry(dtype="F4"), b"1" * 8), "a is of type F4, not one of"),
        (_file(b"[]"), "its header is not a list of tensors"),
        (_file(b"not json"), "its header is not a list of tensors"),
        (_file(b'{"a": {"dtype": "F32"}}'), "its header is not a list of tensors"),
    ],
)
def test_another_file_is_one_sentence(content, message, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        open_safetensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
