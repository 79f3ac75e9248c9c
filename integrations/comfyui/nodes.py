"""Nodes that load a model, take a pose from JSON or from an image, draw it, and sample images in it.

Nothing of ComfyUI is imported. Images are its IMAGE: float tensors (n, height, width, 3) in [0, 1]. The types
HUMANSD_MODEL and HUMANSD_POSE pass between these nodes alone.
"""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from humansd.inference.pretrained import load_pipeline
from humansd.inference.prompt_weights import prompt_arguments
from humansd.inference.words import prepared_negatives, prepared_prompts
from humansd.methods.table import METHODS
from humansd.models.estimators import ESTIMATORS, PHOTO_ESTIMATOR, load_estimator
from humansd.pipelines.scheduler_names import SCHEDULERS
from humansd.pipelines.schedulers import make_scheduler
from humansd.pose.drawn import read_drawing
from humansd.pose.formats import read_poses
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE, OPENPOSE_STYLE, draw_people

CATEGORY = "HumanSD"
OWN = "the model's own"
LARGEST_JSON = 20_000_000  # letters
MOST_PX = 4096
Inputs = dict[str, dict[str, Any]]


class Loaded(NamedTuple):
    """A pipeline and what it was loaded by, whose words it knows."""

    pipeline: Any
    name: str


class LoadModel:
    """A shipped model's name, a diffusers folder or a hub id."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("HUMANSD_MODEL",), ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """As ComfyUI asks for it."""
        return {
            "required": {
                "model": ("STRING", {"default": "pocket"}),
                "device": (["auto", "cpu", "cuda"], {}),
                "dtype": (["auto", "fp32", "fp16", "bf16"], {}),
            },
            "optional": {
                "method": ([OWN, *METHODS], {"tooltip": "of a plain Stable Diffusion with a pose network"}),
                "pose_network": (
                    "STRING",
                    {"default": "", "tooltip": "a ControlNet or the like, in diffusers' layout"},
                ),
            },
        }

    def load(self, model: str, device: str, dtype: str, method: str = OWN, pose_network: str = "") -> tuple[Loaded]:
        """The model. Errors as of `load_pipeline`."""
        named = "" if method == OWN else method
        pipeline = load_pipeline(model, device, dtype=dtype, plain=True, method=named, pose_network=pose_network)
        pipeline.set_progress_bar_config(disable=True)
        return (Loaded(pipeline, model),)


class PoseFromJSON:
    """The pose of JSON as text, in any format that humansd reads, or of the POSE_KEYPOINT that other nodes give."""

    CATEGORY, FUNCTION = CATEGORY, "read"
    RETURN_TYPES, RETURN_NAMES = ("HUMANSD_POSE",), ("pose",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """As ComfyUI asks for it."""
        side = {"default": 0, "min": 0, "max": 32768, "tooltip": "0: as the JSON says"}
        return {
            "required": {"text": ("STRING", {"multiline": True, "default": ""})},
            "optional": {
                "pose_keypoint": ("POSE_KEYPOINT",),
                "canvas_width": ("INT", side),
                "canvas_height": ("INT", side),
                "number": ("INT", {"default": 0, "min": 0, "tooltip": "which of several poses, from 0"}),
            },
        }

    def read(
        self, text: str, pose_keypoint: Any = None, canvas_width: int = 0, canvas_height: int = 0, number: int = 0
    ) -> tuple[People]:
        """The pose. ValueError (PoseError) for JSON that holds none."""
        if pose_keypoint is not None:
            text = json.dumps(pose_keypoint)
        if len(text) > LARGEST_JSON:
            raise ValueError(f"text: more than {LARGEST_JSON // 10**6} million letters; take fewer poses")
        if bool(canvas_width) != bool(canvas_height):
            raise ValueError("canvas_width and canvas_height belong together; give both, or leave both 0")
        canvas = (canvas_width, canvas_height) if canvas_width else None
        with tempfile.TemporaryDirectory(prefix="humansd-") as folder:
            file = Path(folder) / "pose.json"
            file.write_text(text, "utf-8")
            poses = list(read_poses(file, canvas=canvas).values())
        if number >= len(poses):
            raise ValueError(f"number is {number}, and there are {len(poses)} poses; it counts from 0")
        return (_somebody(poses[number], "text"),)


class PoseFromImage:
    """The people of a photograph, or of a skeleton drawn in OpenPose's or HumanSD's colors."""

    CATEGORY, FUNCTION = CATEGORY, "detect"
    RETURN_TYPES, RETURN_NAMES = ("HUMANSD_POSE",), ("pose",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """As ComfyUI asks for it."""
        names = [PHOTO_ESTIMATOR, *(name for name in ESTIMATORS if name != PHOTO_ESTIMATOR)]
        number = {"default": 0, "min": 0, "tooltip": "which of several images, from 0"}
        return {"required": {"image": ("IMAGE",), "estimator": (names, {})}, "optional": {"number": ("INT", number)}}

    def detect(self, image: torch.Tensor, estimator: str = PHOTO_ESTIMATOR, number: int = 0) -> tuple[People]:
        """The pose in one image. ValueError where nobody is found."""
        if number >= len(image):
            raise ValueError(f"number is {number}, and there are {len(image)} images; it counts from 0")
        pixels = _pixels(image)[number]
        people = read_drawing(pixels)
        if people is None:
            people = _estimator(estimator).detect([pixels])[0]
        return (_somebody(people, "image"),)


class DrawPose:
    """A pose as an image, for ControlNet nodes or for a look."""

    CATEGORY, FUNCTION = CATEGORY, "draw"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """As ComfyUI asks for it."""
        side = {"default": 512, "min": 16, "max": MOST_PX}
        return {
            "required": {
                "pose": ("HUMANSD_POSE",),
                "width": ("INT", side),
                "height": ("INT", side),
                "colors": (["OpenPose", "HumanSD"], {}),
            }
        }

    def draw(self, pose: People, width: int, height: int, colors: str) -> tuple[torch.Tensor]:
        """The drawing, (1, height, width, 3)."""
        style = OPENPOSE_STYLE if colors == "OpenPose" else HUMANSD_STYLE
        return (_tensor([draw_people(pose.fit(width, height), style)]),)


class Sample:
    """Images of a prompt in a pose. Image i has the seed `seed + i`. Prompts are read as `humansd generate` does."""

    CATEGORY, FUNCTION = CATEGORY, "sample"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        """As ComfyUI asks for it."""
        own = {"tooltip": "0: the model's own"}
        scale = {"default": -1.0, "min": -1.0, "max": 100.0, "step": 0.5, "tooltip": "below 0: the model's own"}
        side = {"default": 0, "min": 0, "max": MOST_PX, "step": 8, **own}
        return {
            "required": {
                "model": ("HUMANSD_MODEL",),
                "prompt": ("STRING", {"multiline": True, "default": "photo, a woman in a red coat in a park"}),
                "negative_prompt": ("STRING", {"multiline": True, "default": ""}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 100}),
                "images": ("INT", {"default": 1, "min": 1, "max": 16}),
                "num_inference_steps": ("INT", {"default": 0, "min": 0, "max": 1000, **own}),
                "guidance_scale": ("FLOAT", scale),
                "pose_guidance_scale": ("FLOAT", scale),
                "width": ("INT", side),
                "height": ("INT", side),
                "scheduler": ([OWN, *SCHEDULERS], {}),
            },
            "optional": {"pose": ("HUMANSD_POSE",)},
        }

    def sample(
        self,
        model: Loaded,
        prompt: str,
        negative_prompt: str = "",
        seed: int = 0,
        images: int = 1,
        num_inference_steps: int = 0,
        guidance_scale: float = -1.0,
        pose_guidance_scale: float = -1.0,
        width: int = 0,
        height: int = 0,
        scheduler: str = OWN,
        pose: People | None = None,
    ) -> tuple[torch.Tensor]:
        """The images, (images, height, width, 3). ValueError as of the pipeline, for tags and odd weights of words."""
        pipeline = model.pipeline
        texts = prepared_prompts([prompt], model.name) * images
        negative = prepared_negatives([negative_prompt], model.name)[0]
        steps = num_inference_steps or pipeline.default_steps
        step_done = _progress(steps)

        def callback(running: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            step_done()
            return {}

        output = pipeline(
            pose=pose,
            **prompt_arguments(pipeline, texts, negative, None),
            num_inference_steps=steps,
            guidance_scale=None if guidance_scale < 0 else guidance_scale,
            pose_guidance_scale=None if pose_guidance_scale < 0 else pose_guidance_scale,
            width=width or None,
            height=height or None,
            scheduler=None if scheduler == OWN else make_scheduler(scheduler, pipeline.scheduler),
            generator=[torch.Generator().manual_seed(seed + i) for i in range(images)],
            callback_on_step_end=callback,
        )
        return (_tensor([np.asarray(image.convert("RGB")) for image in output.images]),)


def _somebody(people: People, field: str) -> People:
    """Those who have a joint; ValueError where nobody has."""
    people = people.with_joints()
    if not people.n:
        raise ValueError(f"{field}: nobody in it has a joint; give one that shows people")
    return people


@functools.cache
def _estimator(name: str) -> Any:
    return load_estimator(name)


def _pixels(image: torch.Tensor) -> np.ndarray:
    """IMAGE -> uint8 (n, height, width, 3)."""
    return (image[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _tensor(images: list[np.ndarray]) -> torch.Tensor:
    """uint8 (height, width, 3) each -> IMAGE."""
    return torch.from_numpy(np.stack(images)).float() / 255


def _progress(steps: int) -> Callable[[], object]:
    """Tells ComfyUI of a step and asks whether its user has stopped, where this runs in it."""
    utils, management = sys.modules.get("comfy.utils"), sys.modules.get("comfy.model_management")
    if utils is None or management is None:
        return lambda: None
    bar = utils.ProgressBar(steps)

    def step_done() -> None:
        management.throw_exception_if_processing_interrupted()
        bar.update(1)

    return step_done


NODE_CLASS_MAPPINGS = {
    "HumanSDLoadModel": LoadModel,
    "HumanSDPoseFromJSON": PoseFromJSON,
    "HumanSDPoseFromImage": PoseFromImage,
    "HumanSDDrawPose": DrawPose,
    "HumanSDSample": Sample,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "HumanSDLoadModel": "Load HumanSD model",
    "HumanSDPoseFromJSON": "Pose from JSON",
    "HumanSDPoseFromImage": "Pose from image",
    "HumanSDDrawPose": "Draw pose",
    "HumanSDSample": "Sample in a pose (HumanSD)",
}
