"""The toy command: its files, its reproducibility and its errors."""

import csv
import importlib
import json
import math

import pytest
from ml_collections import ConfigDict

from experiments.toy import __main__ as command
from experiments.toy import overfitting
from tests.commands.test_commands import check_refusal, run
from tests.experiments.toy.small import small_config
from tests.refusing import make_refusal

METHODS = ("dreambooth", "infusion")


def short_config():
    config = small_config()
    config.pretraining.steps = 60
    config.teaching.methods = METHODS
    return config


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(folder of a short run, its outcome, the sum of its progress updates)."""
    out, steps = tmp_path_factory.mktemp("toy"), []
    config = short_config()
    outcome = overfitting.run(config, steps.append)
    command.write(config, outcome, out)
    return out, outcome, sum(steps)


def test_a_run_writes_three_figures_their_tables_and_a_summary(written):
    names = {"curves", "samples", "field"}
    files = {f"{name}.{end}" for name in names for end in ("png", "csv")}
    assert {file.name for file in written[0].iterdir()} == files | {"summary.json"}
    for name in names:
        picture = (written[0] / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 20_000


def test_the_curves_have_a_row_for_every_method_and_step(written):
    found = rows(written[0] / "curves.csv")
    steps = [(row["method"], int(row["step"])) for row in found]
    assert steps == [(method, step) for method in METHODS for step in (0, 10, 20)]
    numbers = [float(x) for row in found for k, x in row.items() if k != "method"]
    assert all(map(math.isfinite, numbers))


def test_a_residual_has_a_fisher_divergence_of_exactly_zero(written):
    last = {row["method"]: row for row in rows(written[0] / "curves.csv")}
    for name in ("fisher_others", "fisher_class"):
        assert float(last["infusion"][name]) == 0
        assert float(last["dreambooth"][name]) > 0


def test_the_samples_are_those_of_the_figure(written):
    counts = {}
    for row in rows(written[0] / "samples.csv"):
        key = row["method"], row["step"], row["condition"]
        counts[key] = counts.get(key, 0) + 1
    methods = [("base", "0"), *((m, s) for m in METHODS for s in ("10", "20"))]
    conditions = {"top_right": 25, "bottom_left": 25, "bottom_right": 25, "V*": 50}
    assert counts == {(*m, c): n for m in methods for c, n in conditions.items()}


def test_samples_of_the_concept_change_and_of_others_only_with_weights(written):
    heaps = {}
    for row in rows(written[0] / "samples.csv"):
        key = row["method"], row["step"], row["condition"]
        heaps.setdefault(key, []).append((row["x"], row["y"]))
    for method in METHODS:
        assert heaps[method, "20", "V*"] != heaps["base", "0", "V*"]
        same = heaps[method, "20", "top_right"] == heaps["base", "0", "top_right"]
        assert same == (method == "infusion")


def test_the_summary_has_the_best_rates_and_the_baselines(written):
    summary = json.loads((written[0] / "summary.json").read_text())
    for method, losses in summary["fresh_loss_by_rate"].items():
        best = f"{summary['learning_rates'][method]:g}"
        assert losses[best] == min(losses.values())
    assert summary["references"]["ideal"]["covered"] == 1
    assert 0 < summary["references"]["base"]["fisher_exact"] < 1
    assert summary["config"]["teaching"]["steps"] == [0, 10, 20]
    assert len(summary["examples"]) == 8


def test_progress_covers_all_steps(written):
    assert written[2] == overfitting.num_steps(short_config())


def test_the_command_is_reproducible(written, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    given = {"config": short_config(), "out": str(tmp_path / "a" / "b")}
    monkeypatch.setattr(command, "FLAGS", ConfigDict(given))
    command.main(["toy"])
    for name in ("curves", "samples", "field"):
        again = (tmp_path / "a" / "b" / f"{name}.csv").read_text()
        assert again == (written[0] / f"{name}.csv").read_text()
    printed = capsys.readouterr().out
    assert f"figures and tables in {given['out']}; run " in printed
    assert all(f"\n{method} " in printed for method in METHODS)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        (
            "lesson.class_word",
            "top_lefd",
            "Unknown condition 'top_lefd'. Nearest: top_left",
        ),
        (
            "lesson.places",
            (1,),
            "some of the 1 peaks of 'top_left', 0 to 0, not (1,)",
        ),
        ("lesson.places", (), "must index some of the 1 peaks"),
        ("lesson.shots", 0, "lesson.shots must be at least 1, not 0."),
        (
            "teaching.methods",
            ("lora",),
            "Unknown method 'lora'; expected one of dreambooth, ",
        ),
        (
            "teaching.methods",
            (),
            "teaching.methods and teaching.rates must not be empty",
        ),
        ("teaching.steps", (0, 20, 10), "must increase from 0, not (0, 20, 10)."),
        ("teaching.steps", (10, 20), "must increase from 0, not (10, 20)."),
        ("teaching.reference_step", 15, "must be one of (10, 20), not 15."),
        (
            "plots.condition",
            "bottom",
            "unknown condition 'bottom'. Nearest: bottom_left",
        ),
    ],
)
def test_an_invalid_config_fails_before_anything_is_written(
    key, value, says, tmp_path, monkeypatch, capsys
):
    config, out = small_config(), tmp_path / "out"
    config.update_from_flattened_dict({key: value})
    refuse = make_refusal(
        command, {"config": config, "out": str(out)}, monkeypatch, capsys
    )
    assert says in refuse()
    assert not out.exists()


def test_the_command_reads_a_config_with_overrides(tmp_path):
    done = run(
        "experiments.toy",
        "--config=configs/toy/four_peaks.py",
        "--config.lesson.class_word=dog",
        f"--out={tmp_path / 'out'}",
    )
    check_refusal(done, "Unknown condition 'dog'.")


def test_a_single_condition_is_an_error(tmp_path, monkeypatch, capsys):
    config = small_config()
    with config.unlocked():
        config.conditions = ConfigDict({"top_left": ((-1.5, 1.5),)})
    given = {"config": config, "out": str(tmp_path)}
    refuse = make_refusal(command, given, monkeypatch, capsys)
    assert "need two" in refuse()


@pytest.mark.parametrize("name", ["four_peaks", "twenty_five_peaks"])
def test_the_configs_are_valid(name):
    module = importlib.import_module(f"configs.toy.{name}")
    config = module.get_config()
    command.check(config)
    assert sum(map(len, config.conditions.values())) in (4, 50)
