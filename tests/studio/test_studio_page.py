"""The studio's page in a real browser, against a server with the shipped model."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from browser import chromium, errors, opened, until
from humansd.pose.formats import read_poses
from humansd.studio import engine as engine_module
from humansd.studio.app import create_app
from humansd.studio.engine import Engine
from humansd.studio.security import digest
from studio_server import served, settings_of, tiny_model

ROOT = Path(__file__).parents[2]
SHOTS = os.environ.get("STUDIO_SHOTS", "")  # a folder for screenshots
POSE = "return window.studio.pose.toJSON()"
WRIST, ELBOW, SHOULDER = 9, 7, 5


@pytest.fixture(scope="module")
def address():
    with served(create_app(settings_of("pocket", models=(("pocket", "pocket"),)))) as address:
        yield address


@pytest.fixture(scope="module")
def browser(address, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    with chromium(downloads=str(folder)) as driver:
        driver.downloads = folder
        yield driver


@pytest.fixture
def page(browser, address):
    opened(browser, address)
    yield browser
    assert errors(browser) == []


def by(page, css):
    return page.find_element("css selector", css)


def click(page, css):
    node = by(page, css)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", node)
    node.click()


def place(page, joint, person=0):
    """Where a joint is on the canvas, px from its middle, as selenium counts."""
    return page.execute_script(
        "const {editor: e, pose} = window.studio;"
        "const [x, y] = e.toScreen(pose.people[arguments[1]].xy[arguments[0]]);"
        "return [x - e.size[0] / 2, y - e.size[1] / 2]",
        joint,
        person,
    )


def drag(page, joint, dx, dy):
    from selenium.webdriver import ActionChains

    canvas = by(page, "#canvas")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    x, y = place(page, joint)
    chain = ActionChains(page, duration=20)
    chain.move_to_element_with_offset(canvas, x, y).click_and_hold()
    for part in (0.5, 1.0):
        chain.move_to_element_with_offset(canvas, x + dx * part, y + dy * part)
    chain.release().perform()


def bone(pose, a, b):
    (ax, ay), (bx, by_) = pose["people"][0]["xy"][a], pose["people"][0]["xy"][b]
    return math.hypot(ax - bx, ay - by_)


def settle(page, **values):
    """Fields of the panel."""
    for name, value in values.items():
        page.execute_script("document.getElementById('panel')[arguments[0]].value = arguments[1]", name, str(value))


def drawn(page, count=1):
    """The records of the finished images."""
    until(lambda: len(page.find_elements("css selector", ".card:not(.busy)")) >= count, "no image came", 120)


def test_a_dragged_wrist_keeps_its_bones_and_is_what_is_drawn(page):
    before = page.execute_script(POSE)
    drag(page, WRIST, 60, -110)
    after = page.execute_script(POSE)
    moved = math.dist(after["people"][0]["xy"][WRIST], before["people"][0]["xy"][WRIST])
    assert moved > 40
    for a, b in ((WRIST, ELBOW), (ELBOW, SHOULDER)):
        assert bone(after, a, b) == pytest.approx(bone(before, a, b), rel=1e-3)
    settle(page, prompt="photo, a cyberpunk woman in a red coat", n=1, num_inference_steps=4, seed=5)
    click(page, "#generate")
    until(lambda: "does not know 'cyberpunk', left out" in by(page, "#toasts").text, "the word was not told")
    drawn(page)
    click(page, ".card .shape")
    told = by(page, ".details dl").text
    assert "photo, a woman in a red coat" in told
    assert "pose guidance" in told
    click(page, "#dialog-close")
    page.execute_script("document.activeElement.blur()")
    click(page, '[data-do="undo"]')
    assert page.execute_script(POSE)["people"][0]["xy"] == before["people"][0]["xy"]
    click(page, '[data-do="redo"]')
    assert page.execute_script(POSE) == after


def test_the_keyboard_alone_suffices(page):
    from selenium.webdriver import ActionChains, Keys

    def keys(*all):
        ActionChains(page).send_keys(*all).perform()

    def focused():
        return page.execute_script("return document.activeElement.id || document.activeElement.name")

    for _ in range(40):  # from the top of the page
        keys(Keys.TAB)
        if focused() == "canvas":
            break
    assert focused() == "canvas"
    keys("]")
    before = page.execute_script(POSE)
    keys(Keys.ARROW_RIGHT)
    after = page.execute_script(POSE)
    assert after["people"][0]["xy"][0][0] == pytest.approx(before["people"][0]["xy"][0][0] + 5.12)
    assert "nose of person 1" in by(page, "#spoken").text
    keys("v")
    assert page.execute_script(POSE)["people"][0]["visibility"][0] == 1
    keys(Keys.DELETE)
    assert page.execute_script(POSE)["people"][0]["visibility"][0] == 0
    keys("a", "m", ">", "+", Keys.DELETE)  # a second person comes, is mirrored, turned, enlarged, and goes
    assert len(page.execute_script(POSE)["people"]) == 1
    keys("]", "p", Keys.ARROW_UP)
    for _ in range(40):
        keys(Keys.TAB)
        if focused() == "prompt":
            break
    settle(page, n=1, num_inference_steps=2)
    keys("a man in a park")
    ActionChains(page).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    drawn(page)


def test_a_removed_joint_comes_back_where_it_belongs(page):
    page.execute_script("window.studio.editor.select([[0, arguments[0]]])", WRIST)
    before = page.execute_script(POSE)["people"][0]
    click(page, '[data-do="delete"]')
    assert page.execute_script(POSE)["people"][0]["visibility"][WRIST] == 0
    page.execute_script("window.studio.editor.selectPerson(0)")
    page.execute_script(
        "const s = document.querySelector('#joint select'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change'))",
        str(WRIST),
    )
    again = page.execute_script(POSE)["people"][0]
    assert again["visibility"][WRIST] == 2
    assert math.dist(again["xy"][WRIST], before["xy"][WRIST]) < 150


def test_poses_are_pasted_opened_and_saved(page):
    text = (ROOT / "examples/poses/two_people.json").read_text()
    page.execute_script(
        "const d = new DataTransfer(); d.setData('text', arguments[0]);"
        "document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: d}))",
        text,
    )
    until(lambda: len(page.execute_script(POSE)["people"]) == 2, "not pasted")
    wished = next(iter(read_poses(ROOT / "examples/poses/two_people.json").values())).fit(512, 512)
    assert page.execute_script(POSE)["people"][0]["xy"][0] == pytest.approx(wished.xy[0, 0].tolist(), abs=1.0)
    for format in ("coco", "npz"):
        click(page, '[data-do="save"]')
        click(page, f'[data-format="{format}"]')
        file = page.downloads / f"pose-{format}.{'npz' if format == 'npz' else 'json'}"
        until(file.exists, f"{file.name} was not saved")
        saved = next(iter(read_poses(file).values()))
        assert saved.n == 2
        assert saved.xy[0, 0].tolist() == pytest.approx(page.execute_script(POSE)["people"][0]["xy"][0])


def test_a_photograph_comes_in_and_its_people_can_be_edited(page, tmp_path):
    photo = ROOT / "examples" / "sheet.png"
    from PIL import Image

    person = tmp_path / "person.png"
    sheet = Image.open(photo).convert("RGB")
    side = 128
    found = False
    for left in range(6 + side + 6, min(sheet.width - side, 420), side + 6):
        sheet.crop((left, 6, left + side, 6 + side)).resize((512, 512)).save(person)
        click(page, '[data-do="photo"]')
        by(page, "#file").send_keys(str(person))
        until(lambda: page.find_elements("css selector", ".toast"), "no answer")
        until(lambda: "found" in by(page, "#toasts").text, "nothing was told")
        if not by(page, "#trace-bar").get_attribute("hidden"):
            found = True
            break
    assert found
    assert page.execute_script(POSE)["people"]
    assert page.execute_script("return Boolean(window.studio.editor.trace)")


def test_the_compare_page_draws_columns_of_one_seed(page):
    settle(page, prompt="a man in a park", num_inference_steps=2, seed=3)
    click(page, "#tab-compare")
    assert len(page.find_elements("css selector", ".variant")) == 3
    for node in page.find_elements("css selector", '[data-name="num_inference_steps"]'):
        page.execute_script("arguments[0].value = 2", node)
    page.execute_script("document.getElementById('compare-count').value = 1")
    click(page, "#run-compare")
    until(lambda: len(page.find_elements("css selector", ".cell img")) == 3, "not all were drawn", 120)
    shot(page, "compare")
    click(page, "#tab-draw")


def test_the_estimator_is_drawn_over_the_image_with_the_error_of_every_joint(page):
    settle(page, prompt="photo, a man in a blue jacket", n=1, num_inference_steps=8, seed=2)
    click(page, "#auto-check")
    click(page, "#generate")
    drawn(page)
    until(lambda: page.find_elements("css selector", ".card .badge"), "no similarity was told")
    click(page, ".card .shape")
    shot(page, "details")
    page.find_element("xpath", "//button[text()='Is the pose met?']").click()
    until(lambda: page.find_elements("css selector", ".errors li"), "no errors are shown")
    assert len(page.find_elements("css selector", ".errors li")) == 17
    shot(page, "met")
    click(page, "#dialog-close")


def test_trying_until_the_pose_is_met_marks_the_best(page):
    settle(page, prompt="photo, a man in a blue jacket", num_inference_steps=3, seed=2)
    page.execute_script("window.studio.mostTries = 4")
    click(page, "#until-met")
    until(lambda: page.find_elements("css selector", ".card.best"), "no best image", 180)
    until(lambda: by(page, "#until-met").text == "Try until the pose is met", "it does not end", 180)


def test_the_pose_of_an_image_is_changed_and_the_rest_is_kept(page):
    settle(page, prompt="photo, a man in a blue jacket", n=1, num_inference_steps=4, seed=2)
    click(page, "#generate")
    drawn(page)
    click(page, ".card .shape")
    page.find_element("xpath", "//button[text()='Change the pose of this one']").click()
    assert by(page, "#begin").is_displayed()
    drag(page, WRIST, 50, -60)
    settle(page, n=1)
    click(page, "#generate")
    drawn(page, 2)
    same = page.execute_async_script(
        """const done = arguments[0];
        const images = [...document.querySelectorAll('.card img')].slice(0, 2);
        const all = images.map((image) => { const c = document.createElement('canvas'); c.width = c.height = 128;
          const x = c.getContext('2d'); x.drawImage(image, 0, 0); return x.getImageData(0, 0, 128, 128).data; });
        let equal = 0; for (let i = 0; i < all[0].length; i += 4) equal += Math.abs(all[0][i] - all[1][i]) < 3;
        done(equal / (all[0].length / 4));"""
    )
    assert 0.2 < same < 0.999


@pytest.mark.parametrize(
    ("name", "width", "height"), [("desktop", 1440, 960), ("tablet", 820, 1180), ("phone", 390, 844)]
)
def test_nothing_hangs_over_at_three_widths(address, name, width, height):
    with chromium(width, height, phone=name == "phone") as driver:
        opened(driver, address)
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        box = driver.execute_script(
            "const b = document.getElementById('canvas').getBoundingClientRect(); return [b.width, b.height]"
        )
        assert min(box) > 300
        small = driver.execute_script(
            "return [...document.querySelectorAll('button, input, select, textarea')]"
            ".filter((n) => n.offsetParent && !n.textContent.trim() && !n.ariaLabel && !n.labels?.length)"
            ".map((n) => n.outerHTML.slice(0, 90))"
        )
        assert small == []  # everything has a name
        shot(driver, name)
        assert errors(driver) == []


def test_two_fingers_zoom_and_one_moves_a_joint(address):
    with chromium(390, 844, phone=True) as driver:
        opened(driver, address)
        frame = driver.execute_script(
            "const b = document.getElementById('canvas').getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]"
        )
        middle = (frame[0] + frame[2] / 2, frame[1] + frame[3] / 2)

        def touch(kind, *points):
            driver.execute_cdp_cmd(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]},
            )

        x, y = place(driver, WRIST)
        before = driver.execute_script(POSE)["people"][0]["xy"][WRIST]
        touch("touchStart", (middle[0] + x, middle[1] + y))
        touch("touchMove", (middle[0] + x - 20, middle[1] + y - 30))
        touch("touchEnd")
        after = driver.execute_script(POSE)["people"][0]["xy"][WRIST]
        assert math.dist(before, after) > 15
        touch("touchStart", (middle[0] - 20, middle[1] + 140), (middle[0] + 20, middle[1] + 140))
        touch("touchMove", (middle[0] - 60, middle[1] + 140), (middle[0] + 60, middle[1] + 140))
        touch("touchEnd")
        assert driver.execute_script("return window.studio.editor.zoom") > 1.5
        assert driver.execute_script(POSE)["people"][0]["xy"][WRIST] == after
        assert errors(driver) == []


def test_the_page_is_small_and_asks_nobody_else(address):
    static = ROOT / "src/humansd/studio/static"
    files = [file for file in static.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 150_000
    for file in files:
        text = file.read_text()
        assert "http://" not in text.replace("http://www.w3.org/", "")
        assert "https://" not in text
        assert len(text.splitlines()) < 300, file.name
    assert json.loads((static.parent / "presets.json").read_text())


def test_a_pose_is_drawn_while_the_model_is_loaded(tmp_path, monkeypatch):
    go, load = threading.Event(), engine_module.load_workers
    monkeypatch.setattr(engine_module, "load_workers", lambda *args: go.wait(60) and load(*args))
    settings = settings_of(tiny_model(tmp_path / "tiny"))
    try:
        with served(create_app(settings, Engine(settings))) as address, chromium() as driver:
            driver.get(address)
            until(lambda: "loading the model" in by(driver, "#status").text, "nothing is said of the model")
            before = driver.execute_script(POSE)
            drag(driver, WRIST, 40, -30)
            moved = driver.execute_script(POSE)
            assert moved["people"][0]["xy"][WRIST] != before["people"][0]["xy"][WRIST]
            click(driver, "#tab-compare")
            click(driver, "#tab-draw")
            shot(driver, "loading")
            go.set()
            until(lambda: driver.execute_script("return document.documentElement.dataset.ready"), "it is not ready")
            assert driver.execute_script(POSE)["people"][0]["xy"][WRIST] == moved["people"][0]["xy"][WRIST]
            by(driver, "[name=prompt]").send_keys("a man")
            click(driver, "#generate")
            until(lambda: driver.find_elements("css selector", "#gallery img"), "no image came")
            assert errors(driver) == []
    finally:
        go.set()


def test_the_key_is_asked_for_once(tmp_path):
    key = "a-key-of-some-length"
    settings = settings_of(tiny_model(tmp_path / "tiny"), keys=frozenset({digest(key)}))
    with served(create_app(settings)) as address, chromium() as driver:
        driver.get(address)
        field = until(
            lambda: driver.find_elements("css selector", "dialog input[type=password]"), "no key is asked for"
        )
        assert len(field) == 1
        field[0].send_keys(key, "\n")
        until(lambda: driver.execute_script("return document.documentElement.dataset.ready"), "it is not ready")
        assert not driver.find_elements("css selector", "dialog[open]")


def shot(driver, name):
    if SHOTS:
        driver.save_screenshot(f"{SHOTS}/{name}.png")
