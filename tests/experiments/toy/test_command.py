"""The toy's command: what it leaves, that a seed settles it, and how it refuses."""

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

TAUGHT = ("dreambooth", "infusion")


def short_config():
    config = small_config()
    config.pretraining.steps = 60
    config.teaching.methods = TAUGHT
    return config


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(the folder that a short run leaves, its outcome, the steps it told of)."""
    out, ticks = tmp_path_factory.mktemp("toy"), []
    config = short_config()
    outcome = overfitting.run(config, ticks.append)
    command.write(config, outcome, out)
    return out, outcome, sum(ticks)


def test_it_leaves_three_figures_their_tables_and_a_summary(written):
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
    assert steps == [(method, step) for method in TAUGHT for step in (0, 10, 20)]
    numbers = [float(x) for row in found for k, x in row.items() if k != "method"]
    assert all(map(math.isfinite, numbers))


def test_a_method_of_own_numbers_has_a_fisher_divergence_of_exactly_zero(written):
    last = {row["method"]: row for row in rows(written[0] / "curves.csv")}
    for name in ("fisher_others", "fisher_class"):
        assert float(last["infusion"][name]) == 0
        assert float(last["dreambooth"][name]) > 0


def test_the_samples_are_those_of_the_figure(written):
    counts = {}
    for row in rows(written[0] / "samples.csv"):
        key = row["method"], row["step"], row["condition"]
        counts[key] = counts.get(key, 0) + 1
    methods = [("base", "0"), *((m, s) for m in TAUGHT for s in ("10", "20"))]
    conditions = {"top_right": 25, "bottom_left": 25, "bottom_right": 25, "V*": 50}
    assert counts == {(*m, c): n for m in methods for c, n in conditions.items()}


def test_the_concept_is_what_is_sampled_and_other_words_stay(written):
    heaps = {}
    for row in rows(written[0] / "samples.csv"):
        key = row["method"], row["step"], row["condition"]
        heaps.setdefault(key, []).append((row["x"], row["y"]))
    for method in TAUGHT:
        assert heaps[method, "20", "V*"] != heaps["base", "0", "V*"]
        same = heaps[method, "20", "top_right"] == heaps["base", "0", "top_right"]
        assert same == (method == "infusion")


def test_the_summary_says_which_rate_was_best_and_what_exact_draws_have(written):
    summary = json.loads((written[0] / "summary.json").read_text())
    for method, losses in summary["fresh_loss_by_rate"].items():
        best = f"{summary['learning_rates'][method]:g}"
        assert losses[best] == min(losses.values())
    assert summary["references"]["ideal"]["covered"] == 1
    assert 0 < summary["references"]["base"]["fisher_exact"] < 1
    assert summary["config"]["teaching"]["steps"] == [0, 10, 20]
    assert len(summary["examples"]) == 8


def test_progress_is_told_of_all_steps(written):
    assert written[2] == overfitting.steps_of(short_config())


def test_the_command_writes_the_same_from_the_same_seed(
    written, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    given = {"config": short_config(), "out": str(tmp_path / "a" / "b")}
    monkeypatch.setattr(command, "FLAGS", ConfigDict(given))
    command.main(["toy"])
    for name in ("curves", "samples", "field"):
        again = (tmp_path / "a" / "b" / f"{name}.csv").read_text()
        assert again == (written[0] / f"{name}.csv").read_text()
    printed = capsys.readouterr().out
    assert f"figures and tables in {given['out']}; run " in printed
    assert all(f"\n{method} " in printed for method in TAUGHT)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("lesson.class_word", "top_lefd", "No condition 'top_lefd'. Nearest: top_left"),
        (
            "lesson.places",
            (1,),
            "some of the 1 peaks of 'top_left' by 0 to 0, not (1,)",
        ),
        ("lesson.places", (), "must name some of the 1 peaks"),
        ("lesson.shots", 0, "lesson.shots must be at least 1, not 0."),
        ("teaching.methods", ("lora",), "No method 'lora'; there are: dreambooth, "),
        ("teaching.methods", (), "at least one of teaching.methods"),
        ("teaching.steps", (0, 20, 10), "must rise from 0, not (0, 20, 10)."),
        ("teaching.steps", (10, 20), "must rise from 0, not (10, 20)."),
        ("teaching.reference_step", 15, "none of the steps (10, 20)."),
        ("plots.condition", "bottom", "no condition 'bottom'. Nearest: bottom_left"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    key, value, says, tmp_path, monkeypatch, capsys
):
    config, out = small_config(), tmp_path / "out"
    config.update_from_flattened_dict({key: value})
    refuse = make_refusal(
        command, {"config": config, "out": str(out)}, monkeypatch, capsys
    )
    assert says in refuse()
    assert not out.exists()


def test_it_is_started_by_its_name_and_reads_a_config_with_changes(tmp_path):
    done = run(
        "experiments.toy",
        "--config=configs/toy/four_peaks.py",
        "--config.lesson.class_word=dog",
        f"--out={tmp_path / 'out'}",
    )
    check_refusal(done, "No condition 'dog'.")


def test_one_condition_alone_is_refused(tmp_path, monkeypatch, capsys):
    config = small_config()
    with config.unlocked():
        config.conditions = ConfigDict({"top_left": ((-1.5, 1.5),)})
    given = {"config": config, "out": str(tmp_path)}
    refuse = make_refusal(command, given, monkeypatch, capsys)
    assert "give two or more" in refuse()


@pytest.mark.parametrize("name", ["four_peaks", "twenty_five_peaks"])
def test_the_configs_are_accepted_and_say_their_command(name):
    module = importlib.import_module(f"configs.toy.{name}")
    config = module.get_config()
    command.check(config)
    assert f"--config configs/toy/{name}.py" in " ".join(module.__doc__.split())
    assert sum(map(len, config.conditions.values())) in (4, 50)
