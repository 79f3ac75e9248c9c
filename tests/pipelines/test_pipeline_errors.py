"""What the pipeline refuses, and that each message names the argument and the remedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from PIL import Image

from humansd.pipelines import HumanSDPipeline
from humansd.pose import PoseError
from humansd.pose.formats import write_poses
from tiny_pipeline import SIZE, standing, tiny_components


@pytest.fixture(scope="module")
def pipe() -> HumanSDPipeline:
    pipe = HumanSDPipeline(**tiny_components())
    pipe.set_progress_bar_config(disable=True)
    return pipe


IMAGE = np.zeros((SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 17}, r"width is 17 px; it must be a multiple of 2, for example 16"),
        ({"height": 0}, r"height is 0 px; it must be a multiple of 2, for example 2"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt is 0"),
        ({"output_type": "jpg"}, "output_type is 'jpg'; choose one of pil, np, pt, latent"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "names noise; choose among latents"),
        ({"prompt": []}, "prompt is an empty list"),
        ({"prompt": 5}, "prompt must be a text or a list of texts, not int"),
        ({"prompt": ["a", None]}, "prompt must be a text"),
        ({"negative_prompt": 5}, "negative_prompt must be a text"),
        ({"prompt": ["a"] * 2, "pose": [None] * 3}, "2 of prompt, 1 of negative_prompt, 3 of pose"),
        ({"seed": 1, "generator": torch.Generator()}, "both seed and generator"),
        ({"prompt": ["a"] * 2, "generator": torch.Generator()}, "1 generators for 2 images; pass a list"),
        ({"generator": []}, "0 generators for 1 images"),
    ],
)
def test_arguments(pipe, options, message):
    with pytest.raises(ValueError, match=message):
        pipe(**{"prompt": "a man"} | options)


@pytest.mark.parametrize(
    ("pose", "kind", "message"),
    [
        (Image.fromarray(IMAGE), "people", "an image.*pose_kind='skeleton'.*photo, detect its people"),
        (IMAGE, "people", "an image.*pose_kind='skeleton'"),
        (3, "people", "a int.*Pass People"),
        ([], "people", "empty list.*None to leave the pose out"),
        (None, "photo", "pose_kind: 'photo' is not known.*people, skeleton"),
        (standing(), "skeleton", "a People where pose_kind='skeleton' expects images"),
        (IMAGE.astype(float), "skeleton", "array of float64.*uint8"),
        (IMAGE[..., 0], "skeleton", r"array of uint8 \(16, 16\)"),
        ({"joints": []}, "people", "joints|missing|version"),
    ],
)
def test_poses(pipe, pose, kind, message):
    with pytest.raises(PoseError, match=message):
        pipe("a man", pose, pose_kind=kind)


def test_pose_files(pipe, tmp_path):
    two = tmp_path / "two.json"
    write_poses(two, {"one": standing(), "two": standing()}, "coco")
    with pytest.raises(PoseError, match=r"two\.json: holds 2 poses, one is needed.*read_poses"):
        pipe("a man", two)
    with pytest.raises(PoseError, match=r"two\.json: not a readable image"):
        pipe("a man", two, pose_kind="skeleton")


def test_eta_needs_a_scheduler_that_has_it(pipe):
    other = HumanSDPipeline(
        **pipe.components | {"scheduler": EulerDiscreteScheduler.from_config(pipe.scheduler.config)}
    )
    with pytest.raises(ValueError, match=r"eta is 0\.5, but EulerDiscreteScheduler has no eta"):
        other("a man", eta=0.5)


def test_unknown_draw_style():
    with pytest.raises(PoseError):
        HumanSDPipeline(**tiny_components(), draw_style={"kind": "crayon"})


def test_broken_weights_are_reported_not_painted():
    parts = tiny_components()
    with torch.no_grad():
        parts["unet"].conv_out.bias.fill_(float("nan"))
    pipe = HumanSDPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    with pytest.raises(FloatingPointError, match=r"latents of image 0, 1 are not finite.*torch\.float32"):
        pipe(["a man", "a park"], num_inference_steps=1)
    parts = tiny_components()
    with torch.no_grad():
        parts["vae"].decoder.conv_out.bias.fill_(float("inf"))
    pipe = HumanSDPipeline(**parts)
    pipe.set_progress_bar_config(disable=True)
    with pytest.raises(FloatingPointError, match="decoded images of image 0"):
        pipe("a man", num_inference_steps=1)


def test_cut_prompt_is_warned_about(pipe):
    with pytest.warns(UserWarning, match="'park at night'"):
        pipe("a man in a man in a man in a park at night", num_inference_steps=1)
