"""The preference study: its page voted on in a real browser, and its win rates."""

import csv
import functools
import json
import types
import zlib
from collections import Counter

import numpy as np
import pytest
import scipy.stats

from personax import study as command
from personax.core.images import write_png
from personax.evaluation import results as journal
from personax.evaluation.preference_rates import score, wilson
from personax.evaluation.preference_study import Ballot, build, read_key
from tests.browser import browser, complaints
from tests.commands.test_commands import run
from tests.evaluation.test_report import colour, make_results
from tests.refusing import refused

PAIR = "custom_diffusion", "infusion"
FLAGS = {
    **{"methods": ",".join(PAIR), "out": "/nowhere/study.html", "references": None},
    **{"questions": 40, "seed": 0, "study": None, "csv": None, "json": None},
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """An evaluation of 3 methods, 2 subjects, and 6 pictures of each."""
    folder = tmp_path_factory.mktemp("run")
    for result in make_results(folder):
        journal.append(folder / "cells.jsonl", result)
    for name, shade in (("dog", 10), ("cat", 240)):
        for i in range(2):
            pixels = np.full((16, 16, 3), shade, np.uint8)
            write_png(folder / "references" / name / f"{i}.png", pixels)
    return folder


@pytest.fixture
def call(monkeypatch):
    """A function of arguments and flags that runs the command in this process."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")

    def run_it(*arguments, **given):
        monkeypatch.setattr(command, "FLAGS", types.SimpleNamespace(**FLAGS | given))
        command.main(["study", *map(str, arguments)])

    return run_it


@pytest.fixture(scope="module")
def built(run_folder, tmp_path_factory):
    """(the page, its key) of 8 questions."""
    page = tmp_path_factory.mktemp("built") / "study.html"
    methods = f"--methods={','.join(PAIR)}"
    done = run(
        *("personax.study", "build", run_folder),
        *(methods, "--questions=8", f"--out={page}"),
    )
    assert done.returncode == 0, done.stderr
    assert str(page.with_suffix(".json")) in done.stdout
    return page, read_key(page.with_suffix(".json"))


def write_votes(path, key, votes, voter="a", **changes):
    """A file as the page exports it, the checksum included."""
    lines = "".join(f"{name} {choice}\n" for name, choice in votes)
    text = f"{key['study']}\n{voter}\n{lines}"
    record = {
        "format": "personax votes 1",
        "study": key["study"],
        "voter": voter,
        "votes": votes,
        "sum": f"{zlib.crc32(text.encode()):08x}",
    }
    path.write_text(json.dumps(record | changes))
    return path


def vote_for(key, method, tie=()):
    """Votes for a method wherever it stands, but for the ids in `tie`."""
    votes = []
    for each in key["questions"]:
        side = "left" if each["left"] == method else "right"
        votes.append([each["id"], "tie" if each["id"] in tie else side])
    return votes


def test_questions_are_spread_over_pairs_kinds_sides_and_subjects(run_folder, tmp_path):
    options = {
        "methods": ["custom_diffusion", "infusion", "base"],
        "references": run_folder / "references",
        "questions": 24,
    }
    key = read_key(build(tmp_path / "one.html", run_folder, **options))
    asked = key["questions"]
    by_pair = {}
    for q in asked:
        pair = (q["kind"], *sorted((q["left"], q["right"])))
        by_pair.setdefault(pair, []).append(q)
    assert [len(own) for own in by_pair.values()] == [4] * 6
    for pair, own in by_pair.items():
        assert Counter(q["left"] == pair[1] for q in own) == {True: 2, False: 2}
        assert Counter(q["subject"] for q in own) == {"dog": 2, "cat": 2}
        samples = {(q["subject"], q["prompt"], q["seed"], q["index"]) for q in own}
        assert len(samples) == 4
    # One kind after the other.
    kinds = [q["kind"] for q in asked]
    assert kinds in (["subject"] * 12 + ["text"] * 12, ["text"] * 12 + ["subject"] * 12)
    again = build(tmp_path / "two.html", run_folder, **options)
    assert read_key(again) == key
    other = read_key(build(tmp_path / "three.html", run_folder, seed=1, **options))
    assert other["questions"] != asked
    assert other["study"] != key["study"]


def test_only_the_key_names_the_methods(built):
    page, key = built
    text = page.read_text()
    assert key["study"] in text
    for name in (*PAIR, "sheets", "cells.jsonl", str(page.parent)):
        assert name not in text


def test_votes_by_keys_survive_a_reload_and_score_what_was_voted(
    built, call, tmp_path, capsys
):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    page, key = built
    keys = {"left": Keys.ARROW_LEFT, "right": Keys.ARROW_RIGHT, "tie": Keys.ARROW_DOWN}
    votes = vote_for(key, "infusion", tie=("q002", "q007"))
    with browser(tmp_path) as driver:

        def press(*pressed):
            ActionChains(driver).send_keys(*pressed).perform()

        def position():
            return driver.find_element("id", "position").text

        driver.get(page.as_uri())
        press(Keys.ARROW_LEFT)  # does nothing before the study has begun
        press(Keys.ENTER)
        assert position() == "1 of 8"
        for (name, choice), question in zip(votes[:4], key["questions"], strict=False):
            assert name == question["id"]
            check_question(driver, question)
            press(keys[choice])
        press(Keys.ARROW_LEFT, Keys.BACKSPACE)
        assert position() == "5 of 8"
        for held in ("repeat", "altKey"):  # a key held down, and the browser's own
            driver.execute_script(
                "document.dispatchEvent(new KeyboardEvent('keydown',"
                " { key: 'ArrowLeft', [arguments[0]]: true }))",
                held,
            )
        assert position() == "5 of 8"
        driver.refresh()
        assert position() == "5 of 8"
        press(*(keys[choice] for _, choice in votes[4:]))
        assert driver.find_element("id", "end").is_displayed()
        press(Keys.BACKSPACE)
        assert position() == "8 of 8"
        press(keys[votes[7][1]])
        driver.find_element("id", "export").click()
        downloads = tmp_path / "downloads"
        (exported,) = WebDriverWait(driver, 10).until(
            lambda _: list(downloads.glob("votes-*.json"))
        )
        assert complaints(driver) == []
    assert json.loads(exported.read_text())["votes"] == votes
    call("score", exported, study=str(page.with_suffix(".json")))
    # Of 4 votes of a kind, ties are half a win of custom_diffusion; Wilson's intervals.
    ties = Counter(q["kind"] for q in key["questions"] if q["id"] in ("q002", "q007"))
    assert ties == {"subject": 1, "text": 1}
    found = score_interval(0.5, 4)
    ends = " to ".join(f"{100 * end:.1f}" for end in found)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for kind in ("subject", "text"):
        assert f"{kind} custom_diffusion infusion 0 1 3 12.5 % {ends}" in lines
    assert lines[-1].startswith("8 votes of 8, voters: 1. A tie is half a win.")


def score_interval(wins, votes):
    """Where the score test is at its 5 % level: (p - x)^2 = z^2 x (1 - x) / n."""
    z, p = scipy.stats.norm.ppf(0.975), wins / votes
    return np.sort(np.roots([1 + z**2 / votes, -(2 * p + z**2 / votes), p**2]))


def check_question(driver, question):
    """The page shows the key's question: words, references, and which is where."""
    asked = driver.find_element("id", "task").text
    assert ("subject" in asked) == (question["kind"] == "subject")
    assert question["prompt"] in driver.find_element("id", "prompt").text
    shade = {"dog": 10, "cat": 240}[question["subject"]]
    assert pixels(driver, "#references img") == [[shade] * 3] * 2
    names = [
        f"{m}.{s}"
        for m in ("custom_diffusion", "infusion", "base")
        for s in ("dog", "cat")
    ]
    sample = 3 * question["seed"] + question["index"]
    assert pixels(driver, "#pair img") == [
        list(colour(names.index(f"{question[side]}.{question['subject']}"), sample))
        for side in ("left", "right")
    ]


def pixels(driver, selector):
    """The first pixel of each of the images."""
    return driver.execute_async_script(
        """
        const [selector, done] = arguments;
        const images = [...document.querySelectorAll(selector)];
        Promise.all(images.map((image) => image.decode())).then(() => done(
          images.map((image) => {
            const canvas = document.createElement("canvas").getContext("2d");
            canvas.drawImage(image, 0, 0);
            return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
          })));
        """,
        selector,
    )


@pytest.mark.parametrize(
    ("wins", "votes"), [(0, 1), (3, 9), (7, 7), (20, 41), (99, 1000)]
)
def test_the_interval_is_wilsons(wins, votes):
    found = scipy.stats.binomtest(wins, votes).proportion_ci(method="wilson")
    assert wilson(wins / votes, votes) == pytest.approx(tuple(found), abs=1e-12)


def make_key(sides):
    """A key of questions on a subject, `sides` are (left, right)."""
    questions = [
        {"id": f"q{i}", "kind": "subject", "left": left, "right": right}
        for i, (left, right) in enumerate(sides)
    ]
    return {"methods": ["a", "b", "c"], "questions": questions}


def test_win_rates_are_those_counted_by_hand():
    key = make_key([("a", "b"), ("b", "a"), ("a", "b"), ("c", "a")])
    ballots = [
        Ballot("one", {"q0": "left", "q1": "left", "q2": "tie", "q3": "right"}),
        Ballot("two", {"q0": "left", "q1": "right", "q2": "tie"}),
    ]
    ab, ac = score(key, ballots)
    # a against b: won q0 twice and q1 once, lost q1 once, two ties.
    assert ab[:7] == ("subject", "a", "b", 3, 2, 1, 4 / 6)
    found = scipy.stats.binomtest(4, 6).proportion_ci(method="wilson")
    assert (ab.low, ab.high) == pytest.approx(tuple(found), abs=1e-12)
    assert ac[:7] == ("subject", "a", "c", 1, 0, 0, 1.0)
    (alone, _) = score(key, ballots[:1])
    assert alone.voters_low is None


def test_the_interval_over_voters_is_scipys_bootstrap():
    rng = np.random.default_rng(0)
    key = make_key([("a", "b")] * 20)
    taste = rng.beta(4, 3, 12)
    ballots = [
        Ballot(
            str(i),
            {f"q{j}": "left" if rng.uniform() < p else "right" for j in range(20)},
        )
        for i, p in enumerate(taste)
    ]
    wins = np.array([list(b.choices.values()).count("left") for b in ballots]) / 20
    expected = scipy.stats.bootstrap(
        (wins,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    (rate,) = score(key, ballots)
    # Both are of some 10,000 resamplings.
    found = rate.voters_low, rate.voters_high
    assert found == pytest.approx(tuple(expected), abs=0.005)


def test_score_writes_the_table_as_csv_and_json(built, call, tmp_path, capsys):
    page, key = built
    one = write_votes(tmp_path / "a.json", key, vote_for(key, "infusion"))
    votes = vote_for(key, "custom_diffusion")[:4]
    two = write_votes(tmp_path / "b.json", key, votes, voter="b")
    files = {kind: str(tmp_path / "out" / f"rates.{kind}") for kind in ("csv", "json")}
    call("score", one, two, study=str(page.with_suffix(".json")), **files)
    out = capsys.readouterr().out
    assert "95 %, voters" in out
    assert "12 votes of 16, voters: 2. A tie is half a win." in out
    said = json.loads((tmp_path / "out" / "rates.json").read_text())
    assert said["voters"] == 2
    assert [rate["losses"] for rate in said["rates"]] == [4, 4]
    assert sum(rate["wins"] for rate in said["rates"]) == 4
    with (tmp_path / "out" / "rates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["rate"]) for row in rows] == [r["rate"] for r in said["rates"]]


def test_foreign_and_edited_files_are_refused(built, call, tmp_path, capsys):
    page, key = built
    study = page.with_suffix(".json")
    good = vote_for(key, "infusion")

    def refusal(*files, study=study):
        command_of = functools.partial(call, study=str(study))
        return refused(capsys, command_of, "score", *files)

    def votes(name, votes=good, **changes):
        return write_votes(tmp_path / name, key, votes, **changes)

    assert "another study" in refusal(votes("a.json", study="0" * 32))
    assert "votes do not match its checksum" in refusal(
        votes("b.json", votes=good[1:], sum="00")
    )
    single = votes("c.json")
    single.write_text(single.read_text().replace('"left"', '"left", 1'))
    assert "not pairs" in refusal(single)
    assert "has no votes." in refusal(votes("d.json", votes=[]))
    assert "do not belong to this study" in refusal(
        votes("e.json", votes=[["q999", "left"]])
    )
    assert "do not belong to this study" in refusal(
        votes("f.json", votes=[["q001", "both"]])
    )
    assert "no votes of the format" in refusal(study)
    assert "is not a JSON object" in refusal(page)
    assert "There is no file" in refusal(tmp_path / "gone.json")
    assert "the same voter" in refusal(votes("g.json"), votes("h.json"))
    assert "is not a study's key" in refusal(votes("i.json"), study=votes("j.json"))
    edited = tmp_path / "edited.json"
    edited.write_text(
        study.read_text().replace('"left": "infusion"', '"left": "base"', 1)
    )
    assert "was edited" in refusal(votes("k.json"), study=edited)


def test_invalid_studies_are_refused(run_folder, call, tmp_path, capsys):
    def refusal(run=run_folder, **flags):
        command_of = functools.partial(
            call, **{"out": str(tmp_path / "s.html")} | flags
        )
        return refused(capsys, command_of, "build", run)

    assert "'x'; evaluated methods: custom_diffusion, inf" in refusal(methods="x,base")
    assert "at least two different methods" in refusal(methods="base")
    assert "at least two different methods" in refusal(methods="base,base")
    assert "share 12 pictures" in refusal()
    assert "too few" in refusal(questions=1)
    assert "has no evaluation" in refusal(run=tmp_path)
    assert "no folder" in refusal(references=str(tmp_path / "gone"))
    assert "the suffix of the key" in refusal(out=str(tmp_path / "s.json"))
    dog = tmp_path / "references" / "dog" / "0.png"
    write_png(dog, np.zeros((16, 16, 3), np.uint8))
    only_dog = str(tmp_path / "references")
    assert "cat has no reference" in refusal(questions=8, references=only_dog)
    assert not list(tmp_path.glob("s.*"))
    assert "Usage: personax.study build" in refused(capsys, call, "built")
    assert "--study study.json" in refused(capsys, call, "score", "votes.json")
