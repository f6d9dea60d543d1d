"""The restricted reader of files from before torch 1.6, which torch still writes."""

import os

import numpy as np
import pytest
import torch

from personax.loading.pickles import open_pickle


def save(values, path):
    torch.save(values, path, _use_new_zipfile_serialization=False)


def test_tensors_are_those_that_torch_wrote(tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state, whole = module.state_dict(), torch.arange(24.0).reshape(4, 6)
    state |= {"whole": whole, "turned": whole.T, "part": whole[1:3, ::2]}
    state |= {"half": torch.ones(3).half(), "empty": torch.empty(0, 2)}
    save(state, tmp_path / "old.pth")
    found = open_pickle(tmp_path / "old.pth")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), strict=True)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_said_to_be(share, tmp_path):
    path = tmp_path / "old.pth"
    save({"x": torch.ones(1000), "y": torch.ones(1000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(
        ValueError, match=r"truncated\.|its storage|but only \d+ remain"
    ):
        open_pickle(path)


class _Call:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_what_calls_is_refused_by_name_and_not_run(tmp_path):
    save({"x": torch.ones(2), "y": _Call(tmp_path / "made")}, tmp_path / "old.pth")
    with pytest.raises(ValueError, match=r"asks for posix\.mkdir"):
        open_pickle(tmp_path / "old.pth")
    assert not (tmp_path / "made").exists()
