"""How long a client without room is told to wait: known answers of the queue, and the speed that is measured."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the studio's extra is not installed")

from humansd.studio import looking
from humansd.studio.drawing import ImageTask, Recipe
from humansd.studio.errors import StudioError
from humansd.studio.jobs import Job, Queue
from humansd.studio.metrics import Metrics
from humansd.studio.pace import UNKNOWN_S, Pace
from humansd.studio.wishes import GenerateRequest, Wish
from studio_server import client_of, limits, settings_of, tiny_model


def job(images: int, steps: int = 20, owner: str = "", model: str = "tiny") -> Job:
    recipe = Recipe(model, "humansd", (64, 64), steps, 4.0, 1.0)
    tasks = tuple(ImageTask(recipe, "a man", "", seed) for seed in range(images))
    return Job(Wish(GenerateRequest(prompt="a man", n=images), tasks), owner)


def queue_of(*jobs: Job, most: int, per_owner: int | None = None, batch: int = 1) -> Queue:
    """These jobs in a queue whose images take half a second a step."""
    queue = Queue(most, per_owner or most, batch)
    queue.pace.saw(jobs[0].wish.tasks[0].recipe, 1, 0.5)
    for one in jobs:
        queue.put(one)
    return queue


def told(queue: Queue, images: int, owner: str = "") -> int:
    with pytest.raises(StudioError) as caught:
        queue.check_room(owner, images)
    assert caught.value.status == 429
    assert f"ask again in {caught.value.retry_after} s" in str(caught.value)
    return caught.value.retry_after or 0


def test_the_wait_is_the_work_until_there_is_room():
    queue = queue_of(job(8), most=8)  # ten seconds each
    assert [told(queue, images) for images in (1, 3, 8)] == [10, 30, 80]
    queue = queue_of(job(64), most=64)
    assert told(queue, 32) == 120  # who asks again then is told better


def test_images_that_are_drawn_together_leave_together():
    queue = queue_of(job(8), most=8, batch=4)
    assert [told(queue, images) for images in (1, 4, 5)] == [40, 40, 80]


def test_what_is_drawn_counts_by_the_steps_that_are_left():
    drawn = job(1, steps=60)
    queue = queue_of(drawn, job(1, steps=60), most=2)
    batch = queue.take(1, 0.0)
    drawn.steps[0] = 40
    assert told(queue, 1) == 10
    assert told(queue, 2) == 40
    with pytest.raises(StudioError, match="2 images wait or are drawn, 2 is the most"):
        queue.check_room("", 1)
    queue.done(batch)
    queue.check_room("", 1)


def test_devices_share_the_work():
    queue = queue_of(job(4), most=4)
    queue.workers = 2
    assert [told(queue, images) for images in (1, 3)] == [10, 20]


def test_an_owner_waits_for_the_images_of_its_own_and_those_before():
    queue = queue_of(job(2, owner="a"), job(2, owner="b"), most=10, per_owner=2)
    assert [told(queue, images, "b") for images in (1, 2)] == [30, 40]
    assert [told(queue, images, "a") for images in (1, 2)] == [10, 20]


def test_what_is_left_of_a_job_holds_those_before_it():
    first, second = job(2), job(1)
    queue = queue_of(first, second, most=8)
    assert queue.seconds_left(first) == pytest.approx(20)
    assert queue.seconds_left(second) == pytest.approx(30)
    assert (queue.ahead(first), queue.ahead(second)) == (0, 2)


def test_the_pace_is_that_of_the_model_and_of_others_until_it_was_seen():
    slow, fast = (job(1, model=name).wish.tasks[0].recipe for name in ("slow", "fast"))
    pace = Pace()
    assert pace.seconds(slow) == pytest.approx(20 * UNKNOWN_S)
    pace.saw(slow, 4, 4.0)
    pace.saw(slow, 0, 4.0)  # to decode them
    assert pace.seconds(slow) == pace.seconds(fast) == pytest.approx(40)
    pace.saw(fast, 10, 1.0)
    assert pace.seconds(fast) == pytest.approx(2)
    assert pace.seconds(slow) == pytest.approx(40)
    for _ in range(200):
        pace.saw(slow, 1, 0.25)
    assert pace.seconds(slow) == pytest.approx(5, rel=0.01)


def test_bodies_without_room_are_counted_as_refused(tmp_path):
    with client_of(settings_of(tiny_model(tmp_path / "tiny"), limits=limits(bodies_bytes=10))) as client:
        for path in ("/v1/poses/read", "/sdapi/v1/img2img"):
            assert client.post(path, content=b"x" * 11).status_code == 429
        assert "humansd_rejected_total 2.0" in client.get("/metrics").text


def test_the_pace_is_measured_while_images_are_drawn(tmp_path):
    with client_of(settings_of(tiny_model(tmp_path / "tiny"))) as client:
        engine = client.app.state.engine
        assert client.post("/v1/generate", json={"prompt": "a man", "num_inference_steps": 30, "n": 2}).is_success
        took = engine.metrics.registry.get_sample_value("humansd_batch_seconds_sum", {"model": "tiny"})
        recipe = Recipe("tiny", "humansd", (16, 16), 30, 4.0, 1.0)
        assert 2 * engine.queue.pace.seconds(recipe) == pytest.approx(took, rel=0.5)


def test_who_finds_no_room_for_a_photograph_is_told_the_pace_of_those_before(monkeypatch):
    held, seconds, clock = threading.Event(), [0.0], [0.0]

    class Slow:
        def __init__(self, name, source):
            pass

        def detect(self, image):
            if seconds:  # the first one loads the estimator, which no other waits for
                clock[0] += seconds.pop()
            else:
                held.wait(30)

    monkeypatch.setattr(looking, "Estimator", Slow)
    monkeypatch.setattr(looking, "MOST_PHOTOS", 1)
    monkeypatch.setattr(looking.time, "monotonic", lambda: clock[0])
    looker = looking.Looker(settings_of("none", estimator="slow"), Metrics())
    photograph = np.zeros((4, 4, 3), np.uint8)
    for took in (60.0, 20.0):
        seconds[:] = [took]
        looker.detect(photograph)
    waits = threading.Thread(target=looker.detect, args=(photograph,))
    waits.start()
    while looker._begun is None:
        threading.Event().wait(0.01)
    for passed, wait in ((0.0, 20), (15.0, 5), (99.0, 1)):
        clock[0] = 80.0 + passed
        with pytest.raises(StudioError, match=f"ask again in {wait} s") as caught:
            looker.detect(photograph)
        assert (caught.value.status, caught.value.retry_after) == (429, wait)
    held.set()
    waits.join()
