"""Numbers of flags: a range each, finite, refused with status 2 before a load."""

import pytest
from absl import flags

from personax import compress, edit, merge, sample, search
from personax.cli import command, sheet_flags
from personax.concepts.source import parse_source
from personax.sampling import setup as sampling_setup
from personax.sampling import sheets
from personax.sampling.grammar import (
    parse_axis,
    parse_factor,
    parse_term,
    parse_weight,
)
from personax.sampling.options import EditOptions, ModelOptions, SamplingOptions
from personax.sampling.sheets import SheetOptions
from tests.refusing import refused

pytestmark = pytest.mark.quick


def _parse(module, *arguments):
    """Parse as the command line does; the flags are forgotten again."""
    values, known = flags.FLAGS, set(flags.FLAGS)
    module.define_flags()
    try:
        command._parse([module.__name__, *arguments])
    finally:
        for name in set(values) - known:
            delattr(values, name)


BOTH = [
    f"--{name}={value}"
    for name, values in {
        "steps": (0, -1, 10**12, "nan", 1.5),
        "num_images": (0, -1, 10**12),
        "batch": (0, -1, 10**12),
        "seed": (-1, 2**32, 2**32 + 5, 2**63, 10**20),
        "guidance": ("nan", "inf", "-inf"),
    }.items()
    for value in values
]


@pytest.mark.parametrize("module", [sample, edit])
@pytest.mark.parametrize("argument", BOTH)
def test_a_number_out_of_range_is_refused(module, argument, capsys):
    line = refused(capsys, _parse, module, "--prompt=dog", argument)
    assert argument.partition("=")[0] in line


@pytest.mark.parametrize(
    ("module", "argument"),
    [
        *((sample, f"--eta={value}") for value in ("nan", -1, 1.5)),
        *((sample, f"--strength={value}") for value in ("nan", -1, 2)),
        (sample, "--attention_side=-1"),
        *((edit, f"--subtract_threshold={value}") for value in ("nan", -1, 2)),
        *((edit, f"--blend_start={value}") for value in ("nan", -1, 2)),
        *((compress, f"--share={value}") for value in ("nan", 0, 2)),
        *((merge, f"--ridge={value}") for value in ("nan", "inf", -1)),
        *((search, f"--seed={value}") for value in (-1, 2**32)),
    ],
)
def test_other_numbers_are_refused_too(module, argument, capsys):
    required = ["--prompt=dog"] if module is edit else ["--out=out"]
    line = refused(capsys, _parse, module, *required, argument)
    assert argument.partition("=")[0] in line


def test_the_largest_seed_is_taken():
    _parse(sample, f"--seed={2**32 - 1}")
    SamplingOptions(seed=2**32 - 1)


@pytest.mark.parametrize("size", ["0", "-32", "0x32", "32x0", "1000000", "nan"])
def test_a_size_that_no_picture_has_is_refused(size):
    from personax.cli.sampling_flags import _parse_size

    with pytest.raises(ValueError, match="--size"):
        _parse_size(size)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 2**32},
        {"steps": 10**12},
        {"eta": float("nan")},
        {"eta": 2.0},
        {"size": (0, 32)},
        {"size": (-32, 32)},
        {"num_images": 0},
    ],
)
def test_options_have_the_same_ranges_in_python(options):
    with pytest.raises(ValueError, match=r"must be in"):
        SamplingOptions(**options)


def test_weights_and_strengths_are_finite(tmp_path):
    for weight in ("nan", "inf", "1>nan", "1[nan,1]", "1e999", "1[0,1e999]"):
        with pytest.raises(ValueError, match="weight"):
            parse_weight(weight)
    with pytest.raises(ValueError, match="nan:a dog"):
        parse_term("nan:a dog")
    (tmp_path / "lora.safetensors").touch()
    for strength in ("nan", "inf"):
        with pytest.raises(ValueError, match="strength"):
            parse_source(f"{tmp_path}/lora.safetensors@{strength}")
    with pytest.raises(ValueError, match="guidance must be a finite number"):
        SheetOptions(guidance=float("nan"))
    with pytest.raises(ValueError, match="guidance must be a finite number"):
        EditOptions("a cat", ("a dog",), guidance=float("inf"))


def test_weights_that_float32_does_not_hold_are_refused():
    for weight in ("1e39", "1>-1e39", "1e300[0,0.5]"):
        with pytest.raises(ValueError, match="too large"):
            parse_weight(weight)
    for axis in ("0..1e39/1e38:a dog", "-1e39..0/1e38:a dog"):
        with pytest.raises(ValueError, match="axis"):
            parse_axis(axis)
    with pytest.raises(ValueError, match="hat=1e39"):
        parse_factor("hat=1e39")
    with pytest.raises(ValueError, match="weights=1e39"):
        sheet_flags._parse_grid("weights=1e39")
    with pytest.raises(ValueError, match="guidance must be a finite number"):
        SheetOptions(guidance=1e39)


@pytest.mark.parametrize("value", ["abc", "1e9", ""])
def test_a_text_that_is_no_number_is_refused_in_words(value, capsys):
    line = refused(capsys, _parse, sample, f"--seed={value}")
    assert line == f"personax: flag --seed={value}: expected an integer."


def test_a_text_that_is_no_float_is_refused_in_words(capsys):
    line = refused(capsys, _parse, sample, "--guidance=abc")
    assert line == "personax: flag --guidance=abc: expected a number."


def test_a_sheet_of_too_many_pictures_is_refused():
    with pytest.raises(ValueError, match="number of pictures"):
        sheets._check_count(SheetOptions(rows=("a dog",) * 300_000), 4)
    sheets._check_count(SheetOptions(rows=("a dog",) * 200_000), 4)


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(ValueError, match="float16 is not computed on a CPU"):
        sampling_setup.dtype_of(ModelOptions(dtype="float16"))
