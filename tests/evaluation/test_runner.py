"""A whole evaluation on a small base: results, costs, outputs and resuming."""

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


def test_there_is_a_cell_for_every_row_and_question(done):
    runner, found = done
    singles = [(row, name) for row in ("base", "renders", *ROWS) for name in SUBJECTS]
    pair = "+".join(SUBJECTS)
    rows = ("base", "renders", "added")
    assert {cell.name for cell in found} == {*singles, *((row, pair) for row in rows)}
    assert [
        cell.name for cell in results.read(runner.out / "cells.jsonl").values()
    ] == [cell.name for cell in found]


def test_a_cell_says_what_was_trained_and_what_that_weighs(done):
    runner, found = done
    by_name = {cell.name: cell for cell in found}
    width = runner.base.spec.text_encoder.hidden_size
    assert by_name["textual_inversion", "dog"].num_params == width
    assert by_name["added", "dog+backpack"].num_params == 2 * width
    (file,) = runner.out.glob(
        "taught/textual_inversion/dog.*/concept/theta.safetensors"
    )
    assert by_name["textual_inversion", "dog"].size == file.stat().st_size
    assert by_name["textual_inversion", "dog"].seconds > 0
    assert by_name["base", "dog"].num_params == by_name["base", "dog"].size == 0


def test_what_speaks_of_others_is_unchanged_where_only_a_word_was_learned(done):
    by_name = {cell.name: cell for cell in done[1]}
    for row in ROWS:
        assert by_name[row, "dog"].metrics["fisher"].value == 0
        assert by_name[row, "dog"].metrics["fisher_score"].value == 0
    assert by_name["textual_inversion", "dog"].metrics["same"].value > 1 - 1e-5
    assert abs(by_name["textual_inversion", "dog"].metrics["leak"].value) < 1e-5
    # The class word is Infusion's own: nothing is said of it without the concept.
    assert "same" not in by_name["infusion", "dog"].metrics
    assert by_name["infusion", "dog"].metrics["w2"].value > 0


def test_what_training_moved_is_told_by_kind_of_layer_and_what_is_looked_at(done):
    by_name = {cell.name: cell for cell in done[1]}
    for row in ROWS:
        metrics = by_name[row, "dog"].metrics
        assert {metrics[f"change_{kind}"].value for kind in KINDS} == {0.0}
    # Infusion's maps are the frozen stream's; a word of its own is no class word.
    assert 0 < by_name["infusion", "dog"].metrics["activation"].value < 1
    assert "activation" not in by_name["textual_inversion", "dog"].metrics
    assert "activation" not in by_name["base", "dog"].metrics


def test_a_sheet_s_tile_is_what_its_shot_draws_alone(done):
    runner, found = done
    cell = next(
        each for each in found if each.name == ("textual_inversion", "backpack")
    )
    sample = cell.samples[3]  # the second prompt's second picture
    assert (sample.seed, sample.index) == (runner.config.seed + 1, 1)
    (folder,) = runner.out.glob("taught/textual_inversion/backpack.*/concept")
    model = with_concepts(runner.plain, runner.base, [str(folder)])
    prompt = runner.protocol.singles[1].templates[1].replace("{}", *cell.words)
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
    width, height = cell.tile
    row, column = divmod(3, cell.columns)
    sheet = read_image(runner.out / cell.sheet)
    tile = sheet[row * height :, column * width :][:height, :width]
    # Of 255: in a batch, sums come in another order.
    assert np.abs(tile.astype(int) - np.asarray(alone).astype(int)).max() <= 1


def test_what_is_done_is_not_done_again(done, base, monkeypatch):
    runner, found = done
    monkeypatch.setattr(work, "train_jobs", None)
    again = open_runner(read_config(small_config(base)), runner.out)._replace(draw=None)
    assert evaluate(again) == found


def test_some_rows_alone_leave_the_others_as_the_journal_has_them(
    done, base, tmp_path, monkeypatch
):
    runner, found = done
    lines = (runner.out / "cells.jsonl").read_text().splitlines(keepends=True)
    kept = [each for each in lines if '"infusion"' not in each]
    (tmp_path / "cells.jsonl").write_text("".join(kept))
    own = open_runner(read_config(small_config(base)), tmp_path, ["base"])._replace(
        draw=None
    )
    monkeypatch.setattr(work, "train_jobs", None)
    assert evaluate(own) == [cell for cell in found if cell.method != "infusion"]


def test_a_row_that_does_not_exist_is_refused(base, tmp_path):
    rows = "base, renders, textual_inversion, infusion, added"
    with pytest.raises(
        ValueError, match=f"Unknown row 'infusio'; expected one of {rows}"
    ):
        open_runner(read_config(small_config(base)), tmp_path / "out", ["infusio"])
    assert not (tmp_path / "out").exists()


def test_another_setting_of_one_row_costs_that_row_alone(
    done, base, tmp_path, monkeypatch
):
    runner, found = done
    (tmp_path / "cells.jsonl").write_bytes((runner.out / "cells.jsonl").read_bytes())
    config = small_config(base)
    config.rows.infusion.changes.steps = STEPS + 1
    asked = []

    def stop(lessons, **_):
        asked.extend(lesson.folder.name.split(".")[0] for lesson in lessons)
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "train_jobs", stop)
    again = open_runner(read_config(config), tmp_path)._replace(draw=None)
    with pytest.raises(KeyboardInterrupt):
        evaluate(again)
    assert asked == list(SUBJECTS)
    (old,) = {cell.fingerprint for cell in found if cell.name == ("infusion", "dog")}
    task = again.protocol.singles[0]
    assert fingerprint(again.protocol, again.base, "infusion", task) != old


def test_all_that_is_written_shows_every_row(done):
    runner, found = done
    write_outputs(runner.protocol, found, runner.out)
    for name in ("table.csv", "table.md", "table.tex", "report.html"):
        text = (runner.out / name).read_text()
        assert "infusion" in text, name
    assert read_image(runner.out / "scatter.png").shape[0] > 300


def test_the_printed_table_has_the_columns_that_are_named(done, base):
    runner, found = done
    config = small_config(base)
    config.report.printed = ("w2",)
    write_outputs(
        runner.protocol._replace(config=read_config(config)), found, runner.out
    )
    head = (runner.out / "table.tex").read_text().splitlines()[2]
    assert head == r"Method & W2 \\"
    assert "CLIP-T" in (runner.out / "table.md").read_text()


def test_a_printed_column_that_does_not_exist_is_refused(base, tmp_path):
    config = small_config(base)
    config.report.printed = ("clip_x",)
    with pytest.raises(
        ValueError,
        match=r"Unknown column 'clip_x' in report.printed; expected one of cl",
    ):
        open_runner(read_config(config), tmp_path)


def test_the_ceiling_shows_the_subject_itself(done):
    found = done[1]
    cell = next(each for each in found if each.name == ("renders", "dog"))
    floor = next(each for each in found if each.name == ("base", "dog"))
    assert cell.metrics["clip_i"].value > floor.metrics["clip_i"].value
