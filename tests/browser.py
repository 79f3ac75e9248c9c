"""The system's Chromium, driven without a window. Skips where there is none."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def chromium(width: int = 1440, height: int = 960, *, phone: bool = False, downloads: str = "") -> Iterator[Any]:
    """A driver; `errors(driver)` tells what its console said."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    control = shutil.which("chromedriver")
    if not browser or not control:
        pytest.skip("no Chromium with its driver; apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        f"window-size={width},{height}",
    ):
        options.add_argument(f"--{argument}")
    if phone:
        metrics = {"width": width, "height": height, "pixelRatio": 2, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    if downloads:
        options.add_experimental_option("prefs", {"download.default_directory": downloads})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(control))
    try:
        yield driver
    finally:
        driver.quit()


def opened(driver: Any, address: str) -> None:
    """The page, loaded and ready."""
    driver.get(address)
    until(lambda: driver.execute_script("return document.documentElement.dataset.ready"), "the page is not ready")


def until(true: Callable[[], Any], words: str, seconds: float = 60.0) -> Any:
    """The value once it is true; an AssertionError with `words` after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = true()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(words)


def errors(driver: Any) -> list[str]:
    """What the console reported as wrong."""
    return [line["message"] for line in driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
