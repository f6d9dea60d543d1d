"""The restricted reader: tensors are read, any other pickle is refused."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from personax.loading import load_base
from personax.loading.files import open_file
from personax.loading.pickles import open_pickle, read_pickle
from tests.loading import make


class _Torch:
    """Pickles as a global that is not there to be imported."""

    def __init__(self, name, module="torch"):
        self.name, self.module = name, module


class _Tensor:
    def __init__(self, key, array, offset=0, size=None, stride=None, count=None):
        self.key, self.array, self.offset, self.count = key, array, offset, count
        self.size = array.shape if size is None else size
        items = [s // array.itemsize for s in array.strides]
        self.stride = tuple(items) if stride is None else stride


class _Writer(pickle._Pickler):
    """torch.save's pickles, in pure Python."""

    def persistent_id(self, value):
        if isinstance(value, _Storage):
            return ("storage", _Torch("FloatStorage"), value.key, "cpu", value.count)
        return None

    def reducer_override(self, value):
        return NotImplemented

    def save(self, value, save_persistent_id=True):
        if isinstance(value, _Torch):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _Tensor):
            count = value.array.size if value.count is None else value.count
            self.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
            storage = _Storage(value.key, count)
            super().save(
                (storage, value.offset, value.size, value.stride, False, OrderedDict())
            )
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


class _Storage:
    def __init__(self, key, count):
        self.key, self.count = key, count


def _write(path, value, arrays, *, order=b"little", compress=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    _Writer(buffer, protocol=2).dump(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        archive.writestr("archive/byteorder", order)
        for key, array in arrays.items():
            archive.writestr(f"archive/data/{key}", array.tobytes(), compress)
    return path


MATRIX = np.arange(6, dtype="f4").reshape(2, 3)


def test_tensors_are_views_of_the_file(tmp_path):
    value = {"state_dict": {"w": _Tensor("0", MATRIX), "step": 3}, "epoch": 1}
    found = open_pickle(_write(tmp_path / "x.bin", value, {"0": MATRIX}))
    assert set(found) == {"w"}
    np.testing.assert_array_equal(found["w"], MATRIX)
    assert not found["w"].flags.owndata


def test_strides_and_offsets_are_honoured(tmp_path):
    value = {"t": _Tensor("0", MATRIX, offset=1, size=(3, 1), stride=(1, 3))}
    found = open_pickle(_write(tmp_path / "x.bin", value, {"0": MATRIX}))
    np.testing.assert_array_equal(found["t"], [[1], [2], [3]])


class _Evil:
    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize(
    ("call", "args", "name"),
    [
        (os.system, ("touch {}",), "system"),
        (eval, ("open('{}', 'w')",), "builtins.eval|__builtin__.eval"),
        (getattr, (1, "real"), "getattr"),
    ],
)
def test_a_pickle_that_calls_is_refused_by_name_and_not_run(call, args, name, tmp_path):
    trace = tmp_path / "trace"
    args = [a.format(trace) if isinstance(a, str) else a for a in args]
    path = _write(tmp_path / "x.ckpt", {"a": _Evil(call, *args)}, {})
    with pytest.raises(ValueError, match=f"is refused: .*({name}).*only tensors"):
        open_pickle(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (_Tensor("0", MATRIX, offset=1), "outside its storage"),
        (_Tensor("0", MATRIX, stride=(3, -1)), "outside its storage"),
        (_Tensor("0", MATRIX, size=(2, 300)), "outside its storage"),
        (_Tensor("0", MATRIX, count=7), "too short"),
        (_Tensor("9", MATRIX), "missing"),
    ],
)
def test_a_tensor_stays_in_its_storage(tensor, message, tmp_path):
    path = _write(tmp_path / "x.bin", {"a": tensor}, {"0": MATRIX})
    with pytest.raises(ValueError, match=message):
        open_pickle(path)


def test_other_files_are_one_sentence(tmp_path):
    path = tmp_path / "x.bin"
    for content in (b"", b"\x80\x02}q\x00.", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a torch file, or is truncated"):
            open_pickle(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(ValueError, match="a zip file, but none of torch's"):
        open_pickle(path)
    with pytest.raises(ValueError, match="byte order big"):
        open_pickle(_write(path, {"a": 1}, {}, order=b"big"))
    with pytest.raises(ValueError, match="not contain a dictionary"):
        open_pickle(_write(path, [1], {}))
    compressed = _write(
        path,
        {"a": _Tensor("0", MATRIX)},
        {"0": MATRIX},
        compress=zipfile.ZIP_DEFLATED,
    )
    with pytest.raises(ValueError, match="compressed"):
        open_pickle(compressed)


def test_a_pickle_is_opened_only_when_it_is_allowed(tmp_path):
    path = _write(tmp_path / "x.ckpt", {"w": _Tensor("0", MATRIX)}, {"0": MATRIX})
    with pytest.raises(ValueError, match="pass allow_pickle=True"):
        open_file(path, allow_pickle=False)
    assert set(open_file(path, allow_pickle=True)) == {"w"}


def test_a_directory_of_pickles_is_read_only_when_it_is_allowed(tmp_path):
    directory = tmp_path / "pipeline"
    states = make.write_pipeline(directory)
    expected = load_base(directory).fingerprint
    for part, name in make.FILES.items():
        (directory / part / name).unlink()
        pickled = name.replace("model.safetensors", "pytorch_model.bin")
        pickled = pickled.replace("pytorch_pytorch", "pytorch")
        tensors = {
            k: _Tensor(str(i), v) for i, (k, v) in enumerate(states[part].items())
        }
        arrays = {tensor.key: tensor.array for tensor in tensors.values()}
        _write(directory / part / pickled, tensors, arrays)
    with pytest.raises(ValueError, match=r"only pickled weights .*allow_pickle=True"):
        load_base(directory)
    assert load_base(directory, allow_pickle=True).fingerprint == expected


def test_a_class_that_is_named_but_not_called_is_no_obstacle(tmp_path):
    """As in the checkpoints of CompVis and Runway: callbacks' states by their class."""
    callback = _Torch("ModelCheckpoint", "pytorch_lightning.callbacks")
    value = {
        "state_dict": {"w": _Tensor("0", MATRIX)},
        "callbacks": {callback: {"best": 1.5}},
        "dtype": _Torch("float32"),
    }
    path = _write(tmp_path / "x.ckpt", value, {"0": MATRIX})
    assert set(open_pickle(path)) == {"w"}
    values = read_pickle(path)
    assert [*values["callbacks"].values()] == [{"best": 1.5}]
    assert "dtype" not in values


def test_nested_tensors_are_read(tmp_path):
    tensors = {key: _Tensor(key, MATRIX) for key in "012"}
    value = {
        "unet": {"to_k.weight": {"u": tensors["0"], "v": tensors["1"]}},
        "modifier_token": {"<new1>": tensors["2"]},
        "pair": (tensors["0"], 2.5, True, None),
    }
    path = _write(tmp_path / "delta.bin", value, dict.fromkeys("012", MATRIX))
    assert set(open_pickle(path)) == {
        *("unet.to_k.weight.u", "unet.to_k.weight.v", "modifier_token.<new1>")
    }
    values = read_pickle(path)
    assert list(values) == ["unet", "modifier_token", "pair"]
    np.testing.assert_array_equal(values["unet"]["to_k.weight"]["v"], MATRIX)
    np.testing.assert_array_equal(values["pair"][0], MATRIX)
    assert values["pair"][1:] == [2.5, True, None]


def test_a_list_of_tensors_is_read_as_values_only(tmp_path):
    path = _write(tmp_path / "x.pt", [_Tensor("0", MATRIX)], {"0": MATRIX})
    np.testing.assert_array_equal(read_pickle(path)[0], MATRIX)
    with pytest.raises(ValueError, match="not contain a dictionary"):
        open_pickle(path)


def test_a_file_without_tensors_says_what_it_has(tmp_path):
    path = _write(tmp_path / "x.pt", {"epoch": 1, "name": "a"}, {})
    with pytest.raises(ValueError, match=r"no tensors; its entries are epoch, name\."):
        open_pickle(path)


def test_values_without_end_are_refused(tmp_path):
    endless = {"w": 1}
    endless["self"] = endless
    with pytest.raises(ValueError, match="nested too deeply"):
        read_pickle(_write(tmp_path / "x.pt", endless, {}))
    shared = [1]
    for _ in range(25):  # 2^25 values, were each copied
        shared = [shared, shared]
    assert len(read_pickle(_write(tmp_path / "x.pt", shared, {}))) == 2


@pytest.mark.parametrize(
    "program",
    [
        b"ctorch\nFloat\n}S'x'\nK\x01sb.",  # an attribute of the class is set
        b"ctorch\nFloat\n(tR.",
        b"ctorch\nFloat\n)\x81.",
        b"(ctorch\nFloat\no.",
        b"(itorch\nFloat\n.",
        b"}K\x01.",  # a value that is no dictionary
        b"(((",
        b"ctorch._utils\n_rebuild_tensor_v2\n(tR.",
        b"cnumpy\ndtype\n(S'O8'\ntR.",
        b"\x82\x01.",
    ],
)
def test_any_other_program_is_one_sentence(program, tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(ValueError, match=r"x\.pt") as caught:
        open_pickle(path)
    assert "\n" not in str(caught.value)
