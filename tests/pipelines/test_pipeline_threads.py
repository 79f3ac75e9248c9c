"""One pipeline drawn with from several threads: each call gives what it gives alone."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback
from safetensors.torch import save_file
from test_pipeline_diffusers import lora_file

from humansd.pipelines import HumanSDImg2ImgPipeline, HumanSDPipeline
from humansd.pipelines.schedulers import make_scheduler
from tiny_pipeline import SIZE, standing, tiny_components

STEPS = 6


def make() -> HumanSDPipeline:
    pipe = HumanSDPipeline(**tiny_components())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(pipe: HumanSDPipeline, prompt: str = "a man running", **options: Any) -> np.ndarray:
    given = {"num_inference_steps": STEPS, "output_type": "np", "seed": 3} | options
    return np.asarray(pipe(prompt, standing(), **given).images)


@pytest.fixture(autouse=True)
def busy_threads() -> Iterator[None]:
    """Python changes between threads so often that whatever they share is seen."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def at_once(jobs: list[Callable[[], np.ndarray]]) -> list[np.ndarray]:
    """What each job gives when all begin together."""
    together, results = threading.Barrier(len(jobs)), [np.empty(0)] * len(jobs)

    def run(number: int) -> None:
        together.wait()
        results[number] = jobs[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def same_as_alone(jobs: list[Callable[[], np.ndarray]]) -> None:
    alone = [job() for job in jobs]
    assert min(float(np.abs(one - alone[0]).max()) for one in alone[1:]) > 0  # the jobs differ
    for _ in range(2):
        for got, want in zip(at_once(jobs), alone, strict=True):
            assert np.array_equal(got, want)


def test_schedulers_steps_prompts_and_callbacks_are_a_calls_own() -> None:
    pipe = make()
    start = HumanSDImg2ImgPipeline(**pipe.components)
    start.set_progress_bar_config(disable=True)
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    cut = SDCFGCutoffCallback(cutoff_step_ratio=0.5)
    same_as_alone(
        [
            lambda: call(pipe, seed=1, num_inference_steps=9),
            lambda: call(pipe, "two women dancing at night", scheduler=make_scheduler("euler", pipe.scheduler)),
            lambda: call(pipe, scheduler=make_scheduler("dpm++-2m", pipe.scheduler), guidance_scale=2.0),
            lambda: call(pipe, guidance_scale=6.0, callback_on_step_end=cut),
            lambda: call(start, image=image, strength=0.7),
        ]
    )


def test_scales_of_a_lora_and_words_of_a_textual_inversion_are_a_calls_own(tmp_path: Path) -> None:
    pipe = make()
    pipe.load_lora_weights(str(lora_file(tmp_path)), use_safetensors=True)
    save_file({"<style>": torch.randn(2, 16, generator=torch.Generator().manual_seed(0))}, tmp_path / "s.safetensors")
    pipe.load_textual_inversion(str(tmp_path / "s.safetensors"), use_safetensors=True)
    same_as_alone(
        [
            lambda: call(pipe),
            lambda: call(pipe, cross_attention_kwargs={"scale": 0.5}),
            lambda: call(pipe, cross_attention_kwargs={"scale": 0.25}),
            lambda: call(pipe, "a man <style>", cross_attention_kwargs={"scale": 0.5}),
        ]
    )


def test_one_call_is_stopped_and_the_others_go_on() -> None:
    pipe, steps = make(), {0: [], 1: [], 2: []}

    def counted(number: int, last: int) -> Callable[..., dict[str, Any]]:
        def callback(running: Any, step: int, *_: Any) -> dict[str, Any]:
            steps[number].append(step)
            if step == last:
                running._interrupt = True
            return {}

        return callback

    jobs = [
        (lambda number=number, last=last: call(pipe, callback_on_step_end=counted(number, last)))
        for number, last in enumerate((1, 99, 3))
    ]
    at_once(jobs)
    assert [len(steps[number]) for number in range(3)] == [2, STEPS, 4]


def test_from_outside_all_calls_are_stopped_and_the_next_one_runs() -> None:
    pipe, begun, seen = make(), threading.Event(), []

    def slow(*_: Any) -> dict[str, Any]:
        seen.append(1)
        begun.set()
        time.sleep(0.02)
        return {}

    thread = threading.Thread(target=lambda: call(pipe, num_inference_steps=200, callback_on_step_end=slow))
    thread.start()
    assert begun.wait(20)
    pipe._interrupt = True
    thread.join(20)
    assert len(seen) < 200
    assert np.array_equal(call(pipe), call(make()))


def test_networks_that_are_moved_about_serve_one_call_at_a_time() -> None:
    pipe = make()
    pipe._all_hooks = [object()]  # as enable_model_cpu_offload leaves it; moving them needs another device
    pipe.maybe_free_model_hooks = lambda: None
    inside, most = [0], [0]

    def callback(*_: Any) -> dict[str, Any]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.001)
        inside[0] -= 1
        return {}

    at_once([lambda: call(pipe, callback_on_step_end=callback)] * 3)
    assert most[0] == 1
