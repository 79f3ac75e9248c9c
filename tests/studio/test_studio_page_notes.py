"""What the page tells: notes of the server, the words of a model, fields that nobody sees, a server that is away."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from browser import chromium, errors, opened, until
from humansd.inference.words import Vocabulary
from studio_quick import TINY, free_port, quick_server

WORDS = {"scenes": ["photo", "sketch"], "colors": ["red", "blue"], "garments": ["coat"]}
FEW = replace(TINY, name="few", vocabulary=Vocabulary(frozenset(("a", "man", "red", "photo", "sketch")), WORDS))


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


def by(page, css):
    return page.find_element("css selector", css)


def press(page, css):
    page.execute_script("document.querySelector(arguments[0]).click()", css)


def settle(page, name, value):
    page.execute_script("document.getElementById('panel')[arguments[0]].value = arguments[1]", name, value)


def test_words_are_listed_and_notes_stay_with_the_image(browser):
    with quick_server(FEW, TINY) as (address, _):
        opened(browser, address)
        until(lambda: by(browser, "#words").is_displayed(), "no words are offered")
        assert browser.execute_script("return document.getElementById('panel').prompt.labels.length") == 1
        settle(browser, "prompt", "a cyberpunk man")
        press(browser, "#words")
        until(lambda: browser.find_elements("css selector", ".known button"), "no words are listed")
        for word in ("sketch", "red"):
            browser.find_element("xpath", f"//dialog//button[text()='{word}']").click()
        assert browser.execute_script("return document.getElementById('panel').prompt.value") == (
            "sketch, a cyberpunk man red"
        )
        press(browser, "#dialog-close")
        press(browser, "#generate")
        until(lambda: browser.find_elements("css selector", ".card:not(.busy)"), "no image came")
        note = "does not know 'cyberpunk', left out; “Words” lists them"
        assert note in by(browser, "#toasts").text
        press(browser, ".card .shape")
        assert note in by(browser, ".details dl").text
        press(browser, "#dialog-close")
        browser.execute_script("const m = document.getElementById('panel').model; m.value = 'tiny'; "
                               "m.dispatchEvent(new Event('change'))")  # fmt: skip
        until(lambda: not by(browser, "#words").is_displayed(), "words of a model that reads any text")
        assert errors(browser) == []


def test_a_wrong_field_in_closed_settings_is_shown(browser):
    with quick_server() as (address, engine):
        opened(browser, address)
        settle(browser, "prompt", "a man")
        settle(browser, "num_inference_steps", "9999")
        browser.execute_script("document.querySelector('#panel details').open = false")
        press(browser, "#generate")
        assert by(browser, "#panel [name=num_inference_steps]").is_displayed()
        assert not engine.drawn


def test_an_image_comes_from_a_server_that_was_started_again_meanwhile(browser, tmp_path):
    port, state = free_port(), str(tmp_path / "state")
    with quick_server(port=port, state=state, shutdown_s=0.0) as (address, engine):
        engine.hold = lambda: time.sleep(0.5)
        opened(browser, address)
        settle(browser, "prompt", "a man")
        settle(browser, "num_inference_steps", "20")
        settle(browser, "n", "1")
        press(browser, "#generate")
        until(lambda: engine.live, "no job came")
    with quick_server(port=port, state=state):
        until(lambda: browser.find_elements("css selector", ".card:not(.busy)"), "the image did not come")
        assert browser.find_elements("css selector", ".toast.error") == []
