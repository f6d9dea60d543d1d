"""The fuzzing command finds what escapes a reader."""

import random

import pytest

from benchmarks.fuzz import damaged, fuzz
from benchmarks.fuzz_readers import READERS
from benchmarks.mutate import LARGEST, mutate


def _fuzz(name):
    return fuzz(name, seconds=0.5, slowest=0.2, module="tests.faults.fuzzed")


def test_refusals_that_name_the_file_are_no_escapes():
    report = _fuzz("careful")
    assert report.tried > 10
    assert report.escapes == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("unnamed", "ValueError that names no file"),
        ("trips", "KeyError"),
        ("dies", "killed by SIGSEGV"),
        ("hangs", "more than 0.2 s"),
        ("fills", "MemoryError"),
    ],
)
def test_escapes_are_found_with_their_input(name, what):
    report = _fuzz(name)
    escape = report.escapes[0]
    assert what in escape.what
    assert escape.files["dog.txt"] != b"a dog"
    assert report.tried >= len(report.escapes)


def test_a_reader_that_refuses_undamaged_files_is_no_success():
    with pytest.raises(RuntimeError, match="before any damage"):
        _fuzz("refuses its seeds")


def test_an_input_depends_on_seed_and_number_alone():
    reader = READERS["zips"]
    first = [damaged(reader, 0, index) for index in range(20)]
    assert first == [damaged(reader, 0, index) for index in range(20)]
    assert first != [damaged(reader, 1, index) for index in range(20)]
    changed = [files for files in first if files not in reader.seeds()]
    assert len(changed) > 10


@pytest.mark.parametrize("name", ["pictures", "zips", "tars", "safetensors", "configs"])
def test_known_formats_are_changed_inside_and_stay_bounded(name):
    contents = [each for files in READERS[name].seeds() for each in files.values()]
    rng = random.Random(0)
    for data in contents * 5:
        assert len(mutate(data, rng, contents)) <= LARGEST
