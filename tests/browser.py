"""A real browser for the tests of pages: Debian's chromium, driven by selenium."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
    *(
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ),
    *("--disable-sync", "--force-device-scale-factor=1"),
)


@contextlib.contextmanager
def browser(
    folder: pathlib.Path, *, width: int = 1280, height: int = 900
) -> Iterator[Any]:
    """A webdriver with a profile of its own in `folder`, where downloads come, too.

    Without a browser the test is skipped; where CI is "true" it fails.
    """
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in found.items() if path is None]
    try:
        from selenium import webdriver
    except ImportError:
        missing.append("selenium")
    if missing:
        reason = (
            f"A browser test needs {' and '.join(missing)}: "
            "apt-get install chromium chromium-driver; pip install selenium"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = found["chromium"]
    for flag in (
        *_FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},{height}",
    ):
        options.add_argument(flag)
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(folder / "downloads")}
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=found["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def complaints(driver: Any) -> list[str]:
    """What the browser's console says: errors and warnings since the last call."""
    return [f"{each['level']}: {each['message']}" for each in driver.get_log("browser")]
