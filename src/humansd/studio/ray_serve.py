"""Drawing beyond one machine: replicas of a Ray Serve deployment, behind the one studio that has queue and page."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from humansd.studio.drawing import ImageTask, OnStep
from humansd.studio.remote import remote_models
from humansd.studio.served import ServedModel, every, load_served
from humansd.studio.settings import StudioSettings

log = logging.getLogger(__name__)
APP = "humansd-studio"


class Replica:
    """The models of one replica, on one GPU or on the CPU."""

    def __init__(self, settings: StudioSettings) -> None:
        self._models = load_served(settings, settings.devices[0])

    def about(self) -> list[Any]:
        """What its models say of themselves (`drawing.About`)."""
        return [model.about for model in every(self._models)]

    def draw(self, name: str, method: str, tasks: Sequence[ImageTask]) -> Iterator[tuple[str, Any]]:
        """("step", number) of each step; at last ("done", arrays uint8 (H, W, 3)), ("refused" or "failed", text)."""
        told: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        gone = threading.Event()

        def on_step(step: int, images: Any) -> bool:
            told.put(("step", step))
            return not gone.is_set()

        def work() -> None:
            try:
                drawn = self._models[name].by(method).draw(tasks, on_step)
                told.put(("done", [np.asarray(one) for one in drawn]))
            except ValueError as error:
                told.put(("refused", str(error)))
            except Exception as error:
                log.exception("drawing failed")
                told.put(("failed", f"drawing failed ({type(error).__name__})"))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            while True:
                kind, value = told.get()
                yield kind, value
                if kind != "step":
                    return
        finally:
            gone.set()
            thread.join()


def ray_workers(settings: StudioSettings) -> list[dict[str, ServedModel]]:
    """One worker for each of `settings.ray` replicas; Ray gives each batch to one that is free.

    The cluster is that of RAY_ADDRESS or of this machine; without one, one is started here. A replica takes a GPU where
    `settings.devices` name one. Previews are not sent through Ray.

    Raises:
        ValueError: ray[serve] is not installed, or as of `load_served`.
    """
    try:
        import ray
        from ray import serve
    except ImportError:
        raise ValueError("--ray needs Ray Serve; install it with: pip install 'humansd[studio-ray]'") from None
    if not ray.is_initialized():
        ray.init(ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
    serve.start(proxy_location="Disabled")  # what Ray serves is not for clients; the studio stands before it
    gpu = settings.devices[0].startswith("cuda")
    deployment = serve.deployment(
        num_replicas=settings.ray, max_ongoing_requests=1, ray_actor_options={"num_cpus": 0, "num_gpus": int(gpu)}
    )(Replica)
    handle = serve.run(deployment.bind(settings), name=APP, route_prefix=None)
    about = handle.about.remote().result()

    def draw(name: str, method: str, tasks: Sequence[ImageTask], on_step: OnStep) -> list[Image.Image]:
        return _drawn(handle, name, method, list(tasks), on_step)

    return [remote_models(about, draw) for _ in range(settings.ray)]


def close_ray() -> None:
    """Takes the replicas down; the cluster stays."""
    from ray import serve

    serve.delete(APP)


def _drawn(handle: Any, name: str, method: str, tasks: list[ImageTask], on_step: OnStep) -> list[Image.Image]:
    answers = handle.options(stream=True).draw.remote(name, method, tasks)
    for kind, value in answers:
        if kind == "step":
            if not on_step(value, list):
                answers.cancel()
                return [Image.new("RGB", task.recipe.size) for task in tasks]  # nobody waits for them any more
        elif kind == "done":
            return [Image.fromarray(pixels) for pixels in value]
        elif kind == "refused":
            raise ValueError(value)
        else:
            raise RuntimeError(value)
    raise RuntimeError("the replica ended before the images were done")
