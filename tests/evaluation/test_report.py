"""The report page, opened in a real browser, and the pictures that it embeds."""

import base64
import io
import math
import re

import numpy as np
import pytest
from PIL import Image

from personax.core.images import read_image, write_png
from personax.evaluation.config import ReportConfig
from personax.evaluation.means import formatted, means
from personax.evaluation.page import data_uri
from personax.evaluation.report import write_report
from personax.evaluation.results import Column, EvalResult, Measurement, Sample
from personax.evaluation.scatter import write_scatter
from tests.browser import browser, complaints

METHODS, SUBJECTS = ("custom_diffusion", "infusion", "base"), ("dog", "cat")
PROMPTS = ("a {} on the beach", "a {} in a <b>hat</b></script>")
IMAGES, SIDE, ACROSS = 3, 16, 4
COLUMNS = [
    Column("clip_t", "CLIP-T"),
    Column("clip_i", "CLIP-I", digits=2),
    Column("fid", "FID", "lower", 1),
    Column("size", "Size", "lower"),
]
VALUES = {
    ("custom_diffusion", "dog"): {"clip_t": 0.25, "clip_i": 0.8, "fid": 1300.0},
    ("custom_diffusion", "cat"): {"clip_t": 0.28, "clip_i": 0.7, "fid": 1200.0},
    ("infusion", "dog"): {"clip_t": 0.31, "clip_i": 0.6},
    ("infusion", "cat"): {"clip_t": 0.23, "clip_i": 0.6},
    ("base", "dog"): {"clip_t": 0.32, "clip_i": 0.3, "fid": 900.0},
    ("base", "cat"): {"clip_t": 0.33, "clip_i": 0.2, "fid": 950.0},
}


def make_results(folder):
    """Results whose pictures are plain, each of its own colour."""
    return [make_result(folder, *name, number) for number, name in enumerate(VALUES)]


def make_result(folder, method, subject, number):
    samples = [
        Sample(prompt.replace("{}", subject), seed, i)
        for seed, prompt in enumerate(PROMPTS)
        for i in range(IMAGES)
    ]
    sheet = np.zeros(
        (math.ceil(len(samples) / ACROSS) * SIDE, ACROSS * SIDE, 3), np.uint8
    )
    for i in range(len(samples)):
        y, x = divmod(i, ACROSS)
        tile = colour(number, i)
        sheet[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE] = tile
    name = f"sheets/{method}.{subject}.png"
    write_png(folder / name, sheet)
    found = VALUES[method, subject]
    metrics = {key: Measurement(value, 0.02, 6) for key, value in found.items()}
    size = 10_000 * (1 + METHODS.index(method))
    return EvalResult(
        *(method, subject, "live", "f", 100, size, 1.0, metrics),
        *(name, (SIDE, SIDE), ACROSS, tuple(samples)),
    )


def colour(result, sample):
    return (40 * result + 20, 40 * sample + 20, 7 * (result + sample))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """(the page, the results it shows), two pictures of each prompt."""
    folder = tmp_path_factory.mktemp("report")
    results = make_results(folder)
    reference = np.full((20, 30, 3), 200, np.uint8)
    rows = means(results, COLUMNS, unranked=("base",))
    write_scatter(folder / "scatter.png", rows, *COLUMNS[:2])
    write_report(
        folder / "html" / "report.html",
        results,
        COLUMNS,
        rows=rows,
        out=folder,
        config=ReportConfig(title="Two methods & a <base>", images=2),
        references={"dog": [reference, reference]},
        scatter=folder / "scatter.png",
    )
    return folder / "html" / "report.html", results


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def page(driver, report):
    """The browser with the page freshly opened; its console must stay silent."""
    driver.get(report[0].as_uri())
    yield driver
    assert complaints(driver) == []


# Whole lists are asked for at once: each question to the browser costs a while.
def visible(page, selector):
    return page.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".filter((each) => each.checkVisibility())",
        selector,
    )


def texts(page, selector):
    return page.execute_script(
        "return [...document.querySelectorAll(arguments[0])]"
        ".map((each) => each.innerText)",
        selector,
    )


def column(page, number):
    """The texts of a column of the visible rows, head excluded."""
    return texts(page, f"tbody tr:not([hidden]) > :nth-child({number + 1})")


def click(page, text):
    """Clicks the button, or the filter's label, that says `text`."""
    (found,) = page.execute_script(
        "return [...document.querySelectorAll('button, label')].filter((each) =>"
        " [each.innerText.trim(), each.ariaLabel].includes(arguments[0]))",
        text,
    )
    found.click()


def test_the_table_has_pythons_means(page, report):
    rows = means(report[1], COLUMNS, unranked=("base",))
    for row, line in zip(rows, range(3), strict=True):
        for number, each in enumerate(COLUMNS, 1):
            mean = row.means.get(each.key)
            expected = "–"
            if mean:
                expected = formatted(each, mean.value)
                if mean.error is not None:
                    expected += f" ± {formatted(each, mean.error)}"
            assert column(page, number)[line] == expected
    assert texts(page, ".best") == ["0.75", "10.0 kB", "0.270"]
    assert texts(page, ".second") == ["0.265", "0.60", "20.0 kB"]
    assert texts(page, ".unranked") == ["base"]
    assert page.title == "Two methods & a <base>"


def test_a_head_sorts_the_best_to_the_top_and_turns(page):
    click(page, "FID ↓")
    head = page.find_element("css selector", "th[data-key=fid]")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 0) == ["base", "custom_diffusion", "infusion"]
    click(page, "FID ↓")
    assert head.get_attribute("aria-sort") == "descending"
    # What was not measured stays at the end.
    assert column(page, 0) == ["custom_diffusion", "base", "infusion"]
    click(page, "CLIP-T ↑")
    assert column(page, 0) == ["base", "infusion", "custom_diffusion"]
    assert head.get_attribute("aria-sort") is None


def test_a_head_is_pressed_by_the_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    button = page.find_element("css selector", "th[data-key=method] button")
    button.send_keys(Keys.ENTER)
    assert column(page, 0) == ["base", "custom_diffusion", "infusion"]
    button.send_keys(Keys.SPACE)
    assert column(page, 0) == ["infusion", "custom_diffusion", "base"]


def test_every_picture_is_its_tile_with_prompt_and_seed(page, report):
    pictures = visible(page, "#pictures [role=img]")
    assert len(pictures) == len(report[1]) * len(PROMPTS) * 2
    expected = {}
    for number, result in enumerate(report[1]):
        for i, sample in enumerate(result.samples):
            if sample.index < 2:
                said = f"{result.method}: {sample.prompt}, seed {sample.seed}"
                expected[f"{said}, picture {sample.index}"] = colour(number, i)
    found = {
        each.get_attribute("aria-label"): middle(each.screenshot_as_png)
        for each in pictures
    }
    assert found == expected
    assert "seed 1" in texts(page, ".prompt h4 small")
    references = visible(page, ".subject[data-subject=dog] .references img")
    assert [each.size["width"] for each in references] == [64, 64]


def middle(png):
    with Image.open(io.BytesIO(png)) as image:
        return image.convert("RGB").getpixel((image.width // 2, image.height // 2))


def test_filters_act_on_table_and_pictures(page):
    click(page, "infusion")
    assert column(page, 0) == ["custom_diffusion", "base"]
    assert len(visible(page, "#pictures [role=img]")) == 16
    click(page, "cat")
    assert len(visible(page, "#pictures [role=img]")) == 8
    assert texts(page, "#status") == ["2 of 3 methods · 1 of 2 subjects · 8 pictures"]
    click(page, "none methods")
    assert column(page, 0) == []
    assert not visible(page, "#pictures section")
    click(page, "all methods")
    click(page, "all subjects")
    assert len(visible(page, "#pictures [role=img]")) == 24


def test_the_scatter_plot_is_the_png(page, report):
    (scatter,) = visible(page, "#scatter")
    data = base64.b64encode((report[0].parents[1] / "scatter.png").read_bytes())
    assert scatter.get_attribute("src") == f"data:image/png;base64,{data.decode()}"


def test_a_picture_is_enlarged_and_arrows_go_on(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(key):
        ActionChains(page).send_keys(key).perform()

    visible(page, ".picture")[0].click()
    assert page.find_element("id", "enlarged-seed").text == "seed 0, picture 0"
    (large,) = visible(page, "dialog [role=img]")
    assert large.size["width"] == 480
    press(Keys.ARROW_RIGHT)
    assert page.find_element("id", "enlarged-seed").text == "seed 0, picture 1"
    (large,) = visible(page, "dialog [role=img]")
    assert middle(large.screenshot_as_png) == colour(0, 1)
    press(Keys.ESCAPE)
    assert not visible(page, "dialog")
    label = page.switch_to.active_element.get_attribute("title")
    assert label == "custom_diffusion: a dog on the beach, seed 0, picture 1"


def test_the_page_asks_the_network_for_nothing(page, report):
    names = page.execute_script(
        "return performance.getEntriesByType('resource').map((each) => each.name)"
    )
    assert all(name.startswith("data:") for name in names)
    text = report[0].read_text().replace("http://www.w3.org/2000/svg", "")
    assert "http" not in text


def test_it_fits_a_telephone_and_follows_the_theme(page):
    def emulate(width, theme):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        return page.execute_script(
            "const page = document.documentElement;"
            "return [page.scrollWidth - page.clientWidth,"
            " getComputedStyle(document.body).backgroundColor]"
        )

    try:
        assert emulate(390, "light") == [0, "rgb(255, 255, 255)"]
        assert emulate(390, "dark") == [0, "rgb(18, 20, 23)"]
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def decoded(url):
    head, _, data = url.partition(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return np.array(image.convert("RGB"))


def test_small_pictures_keep_every_pixel_and_large_ones_nearly():
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decoded(data_uri(small)), small)
    y, x = np.mgrid[:128, :128] / 128
    large = np.stack([255 * x, 255 * y, 127 + 120 * np.sin(9 * x * y)], -1)
    large = large.astype(np.uint8)
    url = data_uri(large)
    error = np.square(decoded(url).astype(float) - large).mean()
    assert 10 * np.log10(255**2 / error) > 35
    assert len(url) < len(data_uri(large, lossless=True))


def test_small_pictures_may_be_shown_in_fewer_bytes(tmp_path):
    (result, *_) = make_results(tmp_path)
    rng, shape = np.random.default_rng(0), read_image(tmp_path / result.sheet).shape
    write_png(tmp_path / result.sheet, rng.integers(0, 256, shape, dtype=np.uint8))
    sizes = []
    for lossless in (True, False):
        page = tmp_path / "report.html"
        config = ReportConfig(lossless=lossless)
        write_report(page, [result], COLUMNS, rows=[], out=tmp_path, config=config)
        (url,) = re.findall(r"data:image/webp;base64,[^\"]+", page.read_text())
        assert decoded(url).shape[2] == 3
        sizes.append(len(url))
    assert sizes[1] < 0.6 * sizes[0]


def test_missing_and_small_sheets_are_refused(tmp_path):
    (result, *_) = make_results(tmp_path)
    page = tmp_path / "report.html"

    def write(results):
        config = ReportConfig()
        write_report(page, results, COLUMNS, rows=[], out=tmp_path, config=config)

    with pytest.raises(ValueError, match="at least one result"):
        write([])
    with pytest.raises(ValueError, match="64x32 pixels, but 6 pictures of 16x16, 2 "):
        write([result._replace(columns=2)])
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        write([result._replace(sheet="gone.png")])
    assert not page.exists()
