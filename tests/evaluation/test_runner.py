"""A whole evaluation on a small base: results, costs, outputs and resuming."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.evaluate import common
from personax.concepts.bind import with_concepts
from personax.core.images import read_image
from personax.diffusion.solvers import SOLVERS
from personax.evaluation import results
from personax.evaluation import trained_models as work
from personax.evaluation.config import read_config
from personax.evaluation.outputs import write_outputs
from personax.evaluation.protocol import fingerprint
from personax.evaluation.runner import evaluate, open_runner
from personax.sampling.prompt_terms import TermSpec, to_terms
from personax.sampling.sampler import make_sampler
from tests.small_models import write_smaller

SUBJECTS = ("dog", "backpack")
ROWS = ("textual_inversion", "infusion")
STEPS = 2
KINDS = ("cross", "self", "rest")


def small_config(base):
    config = common.get_config()
    config.base = str(base)
    config.subjects.names = SUBJECTS
    config.pairs = (SUBJECTS,)
    config.prompts.live = ("a photo of a {}", "a photo of a {} at night")
    config.prompts.object = config.prompts.live
    config.prompts.pair = ("a photo of a {0} next to a {1}",)
    for name in ROWS:
        config.rows[name] = ConfigDict(
            {
                "config": f"configs/emoji_{name}.py",
                "changes": {"steps": STEPS, "batch": 8, "log_every": 1},
            }
        )
    config.pair_rows.added = ConfigDict({"of": "textual_inversion", "way": "add"})
    config.images, config.draw.steps, config.draw.batch = 2, 2, 4
    config.bootstrap = 5
    config.judges = ConfigDict({"clip": "emoji", "captions": "scenes"})
    return config


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_smaller(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def done(base, tmp_path_factory):
    """(the runner, its results) of a whole evaluation."""
    runner = open_runner(
        read_config(small_config(base)), tmp_path_factory.mktemp("out")
    )
    return runner, evaluate(runner)


def test_every_row_and_task_has_a_result(done):
    runner, evaluated = done
    singles = [(row, name) for row in ("base", "renders", *ROWS) for name in SUBJECTS]
    pair = "+".join(SUBJECTS)
    rows = ("base", "renders", "added")
    assert {result.name for result in evaluated} == {
        *singles,
        *((row, pair) for row in rows),
    }
    assert [
        result.name for result in results.read(runner.out / "cells.jsonl").values()
    ] == [result.name for result in evaluated]


def test_results_have_the_costs_of_training(done):
    runner, evaluated = done
    by_name = {result.name: result for result in evaluated}
    width = runner.base.spec.text_encoder.hidden_size
    assert by_name["textual_inversion", "dog"].num_params == width
    assert by_name["added", "dog+backpack"].num_params == 2 * width
    (file,) = runner.out.glob(
        "taught/textual_inversion/dog.*/concept/theta.safetensors"
    )
    assert by_name["textual_inversion", "dog"].size == file.stat().st_size
    assert by_name["textual_inversion", "dog"].seconds > 0
    assert by_name["base", "dog"].num_params == by_name["base", "dog"].size == 0


def test_embedding_methods_do_not_change_other_prompts(done):
    by_name = {result.name: result for result in done[1]}
    for row in ROWS:
        assert by_name[row, "dog"].metrics["fisher"].value == 0
        assert by_name[row, "dog"].metrics["fisher_score"].value == 0
    assert by_name["textual_inversion", "dog"].metrics["same"].value > 1 - 1e-5
    assert abs(by_name["textual_inversion", "dog"].metrics["leak"].value) < 1e-5
    # Infusion's concept is the class word: no prompt lacks it.
    assert "same" not in by_name["infusion", "dog"].metrics
    assert by_name["infusion", "dog"].metrics["w2"].value > 0


def test_rates_of_change_and_activation_are_measured(done):
    by_name = {result.name: result for result in done[1]}
    for row in ROWS:
        metrics = by_name[row, "dog"].metrics
        assert {metrics[f"change_{kind}"].value for kind in KINDS} == {0.0}
    # Textual Inversion's phrase lacks the class word.
    assert 0 < by_name["infusion", "dog"].metrics["activation"].value < 1
    assert "activation" not in by_name["textual_inversion", "dog"].metrics
    assert "activation" not in by_name["base", "dog"].metrics


def test_a_tile_of_a_sheet_is_its_sample(done):
    runner, evaluated = done
    result = next(
        each for each in evaluated if each.name == ("textual_inversion", "backpack")
    )
    sample = result.samples[3]  # the second prompt's second picture
    assert (sample.seed, sample.index) == (runner.config.seed + 1, 1)
    (folder,) = runner.out.glob("taught/textual_inversion/backpack.*/concept")
    model = with_concepts(runner.plain, runner.base, [str(folder)])
    prompt = runner.protocol.singles[1].templates[1].replace("{}", *result.words)
    assert (prompt, sample.prompt) == (
        "a photo of a <v1> at night",
        "a photo of a backpack at night",
    )
    base, settings = runner.base, runner.config.draw
    sampler = make_sampler(
        base.spec, base.params["vae"], SOLVERS["ddim"], settings.steps
    )
    terms = to_terms({"base": model}, [TermSpec(prompt, settings.guidance)])
    key, indices = jax.random.key(sample.seed), jnp.array([sample.index])
    alone = sampler.draw({"base": model}, terms, key, indices)[0]
    width, height = result.tile
    row, column = divmod(3, result.columns)
    sheet = read_image(runner.out / result.sheet)
    tile = sheet[row * height :, column * width :][:height, :width]
    # Of 255 levels: a batch has another order of summation.
    assert np.abs(tile.astype(int) - np.asarray(alone).astype(int)).max() <= 1


def test_results_in_the_journal_are_reused(done, base, monkeypatch):
    runner, evaluated = done
    monkeypatch.setattr(work, "train_jobs", None)
    again = open_runner(read_config(small_config(base)), runner.out)._replace(draw=None)
    assert evaluate(again) == evaluated


def test_selected_rows_leave_the_others_as_the_journal_has_them(
    done, base, tmp_path, monkeypatch
):
    runner, evaluated = done
    lines = (runner.out / "cells.jsonl").read_text().splitlines(keepends=True)
    others = [line for line in lines if '"infusion"' not in line]
    (tmp_path / "cells.jsonl").write_text("".join(others))
    shutil.copytree(runner.out / "sheets", tmp_path / "sheets")
    own = open_runner(read_config(small_config(base)), tmp_path, ["base"])._replace(
        draw=None
    )
    monkeypatch.setattr(work, "train_jobs", None)
    assert evaluate(own) == [
        result for result in evaluated if result.method != "infusion"
    ]


def test_an_unknown_row_is_refused(base, tmp_path):
    rows = "base, renders, textual_inversion, infusion, added"
    with pytest.raises(
        ValueError, match=f"Unknown row 'infusio'; expected one of {rows}"
    ):
        open_runner(read_config(small_config(base)), tmp_path / "out", ["infusio"])
    assert not (tmp_path / "out").exists()


def test_a_changed_row_is_trained_again(done, base, tmp_path, monkeypatch):
    runner, evaluated = done
    shutil.copy(runner.out / "cells.jsonl", tmp_path)
    shutil.copytree(runner.out / "sheets", tmp_path / "sheets")
    config = small_config(base)
    config.rows.infusion.changes.steps = STEPS + 1
    trained = []

    def stop(jobs, **_):
        trained.extend(job.folder.name.split(".")[0] for job in jobs)
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "train_jobs", stop)
    again = open_runner(read_config(config), tmp_path)._replace(draw=None)
    with pytest.raises(KeyboardInterrupt):
        evaluate(again)
    assert trained == list(SUBJECTS)
    (old,) = {
        result.fingerprint for result in evaluated if result.name == ("infusion", "dog")
    }
    task = again.protocol.singles[0]
    assert fingerprint(again.protocol, again.base, "infusion", task) != old


def test_every_output_has_every_row(done):
    runner, evaluated = done
    write_outputs(runner.protocol, evaluated, runner.out)
    for name in ("table.csv", "table.md", "table.tex", "report.html"):
        text = (runner.out / name).read_text()
        assert "infusion" in text, name
    assert read_image(runner.out / "scatter.png").shape[0] > 300


def test_the_latex_table_has_the_printed_columns(done, base):
    runner, evaluated = done
    config = small_config(base)
    config.report.printed = ("w2",)
    write_outputs(
        runner.protocol._replace(config=read_config(config)), evaluated, runner.out
    )
    head = (runner.out / "table.tex").read_text().splitlines()[2]
    assert head == r"Method & W2 \\"
    assert "CLIP-T" in (runner.out / "table.md").read_text()


def test_an_unknown_printed_column_is_refused(base, tmp_path):
    config = small_config(base)
    config.report.printed = ("clip_x",)
    with pytest.raises(
        ValueError,
        match=r"Unknown column 'clip_x' in report.printed; expected one of cl",
    ):
        open_runner(read_config(config), tmp_path)


def test_renders_resemble_the_subject_more_than_the_base_does(done):
    evaluated = done[1]
    result = next(each for each in evaluated if each.name == ("renders", "dog"))
    floor = next(each for each in evaluated if each.name == ("base", "dog"))
    assert result.metrics["clip_i"].value > floor.metrics["clip_i"].value
