"""What an evaluation reads and trains, checked before it computes anything."""

from collections.abc import Collection, Iterable, Mapping

from personax.concepts import artifact
from personax.concepts.merge import read_captions
from personax.core.files import expand
from personax.core.images import read_image, read_images
from personax.data import concepts
from personax.evaluation.config import RENDERS
from personax.evaluation.protocol import EvalTask, Protocol, Runner, jobs
from personax.loading.stored import open_safetensors
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.prompt_terms import check as check_terms
from personax.training.concept_text import check_prompts
from personax.training.regularization import prior_set
from personax.training.setup import Loaded, Run, prepare


def check_pictures(protocol: Protocol) -> None:
    """Read every picture of every subject, and the real ones.

    Raises ValueError or FileNotFoundError for one that cannot be read.
    """
    for task in protocol.singles + protocol.pairs:
        for subject in task.subjects:
            concepts.pictures(subject.images)
    if "inception" in protocol.config.metrics:
        for folder in real_folders(protocol):
            count = len(read_images(folder))
            if count < 3:
                raise ValueError(
                    f"{folder} has {count} real pictures; KID needs 3 and more."
                )


def real_folders(protocol: Protocol) -> list[str]:
    """The folders of real pictures that there are, one for each class word."""
    words = {task.class_words[0] for task in protocol.singles}
    paths = (expand(protocol.config.real or "") / word for word in sorted(words))
    return [str(path) for path in paths if protocol.config.real and path.is_dir()]


def check_rows(runner: Runner, missing: Mapping[str, Iterable[EvalTask]]) -> None:
    """Prepare every job of {row: tasks}, as its training will do, and its prompts.

    A job needs little time: the base is loaded already. Raises ValueError, TypeError or
    FileNotFoundError, with the row and the task, for what cannot be trained or drawn.
    """
    loaded, seen = Loaded(runner.base, runner.plain), set()
    for row, tasks in missing.items():
        pair = runner.config.pair_rows.get(row)
        if pair is not None and pair.way == "merge":
            read_captions(runner.base, runner.config.merge_captions)
        for task in tasks:
            if row == RENDERS:
                continue
            terms = [TermSpec(text, 1.0) for text in task.prompts(task.class_words)]
            check_terms({"base": runner.plain}, terms)
            for job in jobs(runner.protocol, row, task, runner.out):
                if job.folder in seen:
                    continue
                seen.add(job.folder)
                try:
                    if job.is_done:
                        artifact.origin(job.concept)
                        open_safetensors(job.concept / "theta.safetensors")
                    else:
                        _check_run(prepare(job.config, like=loaded), task)
                except (ValueError, TypeError, FileNotFoundError) as error:
                    raise ValueError(f"Row {row}, {task.name}: {error}")


def _check_run(run: Run, task: EvalTask) -> None:
    """The task's prompts, and the regularisation sets, without drawing any."""
    phrases = [concept.phrase for concept in run.concepts]
    if len(phrases) == len(task.subjects):
        check_prompts(run.tokenizer, task.prompts(phrases))
    for prior, concept in zip(run.priors, run.concepts, strict=True):
        if prior.source == "generated":
            check_terms({"base": run.plain}, [TermSpec(prior.prompt, prior.guidance)])
        if prior.source == "folder":
            word = concept.class_word
            for each in prior_set(prior, run.base, run.plain, word, run.size):
                read_image(each.path)


def inputs(protocol: Protocol) -> Collection[str]:
    """The paths of the pictures that the evaluation must not write over."""
    folders = [
        path
        for task in protocol.singles + protocol.pairs
        for subject in task.subjects
        for path in (subject.images, subject.prior_images or "")
    ]
    return [path for path in (*folders, *real_folders(protocol)) if path]
