"""What a trained model must know, measured without any detector.

True pose against another's, true caption against another's (denoising loss on held-out images), and whether
the cloth of generated people has the colour the prompt names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from humansd.data.image_cache import to_unit
from humansd.data.sample import Sample
from humansd.evaluation.colors import TORSO, fill_torso, nearest_color
from humansd.losses.denoising import denoising_target, mse
from humansd.models.codec import encode_images
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.schedulers import make_scheduler
from humansd.pose.people import People
from humansd.pose.skeleton import COCO17
from humansd.synthetic.captions import COLOR_WORDS
from humansd.synthetic.plan import COLORS
from humansd.synthetic.render import make_sample

TIMESTEPS = (150, 350, 550, 750, 900)

SEEN_PATTERNS = (
    "photo, a woman in {clothes} standing upright in a studio",
    "photo, a man wearing {clothes}, standing upright in a meadow on a sunny day",
    "cartoon, a woman standing upright on a beach, wearing {clothes}",
    "photo, a man standing upright, dressed in {clothes}, in a city",
)
HELD_OUT_PATTERNS = (
    "photo, a woman is standing upright in a studio in {clothes}",
    "photo, dressed in {clothes}, a man is standing upright in a meadow on a sunny day",
    "cartoon, on a sunny day on a beach, a woman with {clothes}, standing upright",
    "photo, a man is standing upright in a city in {clothes}",
)
SEEN_TOPS = ("t-shirt", "sweater", "shirt")
HELD_OUT_TOPS = ("tee", "jumper", "long-sleeved shirt")  # rarer words for the same clothes
STANDING_SEED = 990_002

Condition = Literal["pose", "text"]


@torch.no_grad()
def preference_rate(
    pipeline: HumanSDPipeline,
    samples: Sequence[Sample],
    other: Condition,
    timesteps: Sequence[int] = TIMESTEPS,
) -> float:
    """Share of `samples` whose denoising loss is lower with their own condition than with the next sample's.

    The loss (HumanSD Eq. 1) is the mean over `timesteps`, with the same noise for both conditions. `other` says
    which condition is exchanged. Chance is 0.5.
    """
    images = np.stack([sample.image for sample in samples])
    latents = encode_images(pipeline.vae, to_unit(images))
    poses = pipeline.encode_pose([sample.people for sample in samples], height=images.shape[1], width=images.shape[2])
    texts = pipeline.encode_prompt([sample.caption for sample in samples])
    swapped = (poses.roll(-1, 0), texts) if other == "pose" else (poses, texts.roll(-1, 0))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
    true, false = torch.zeros(len(samples)), torch.zeros(len(samples))
    for step in timesteps:
        t = torch.full((len(samples),), step, device=latents.device)
        true += _loss(pipeline, latents, noise, t, poses, texts).cpu()
        false += _loss(pipeline, latents, noise, t, *swapped).cpu()
    return float((true < false).float().mean())


def _loss(
    pipeline: HumanSDPipeline,
    latents: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    poses: torch.Tensor,
    texts: torch.Tensor,
) -> torch.Tensor:
    scheduler = make_scheduler("ddim", pipeline.scheduler)  # the schedule that it learnt with; samplers know no targets
    noisy = scheduler.add_noise(latents, noise, timesteps)
    target = denoising_target(scheduler, latents, noise, timesteps)
    answers = []
    for start in range(0, len(noisy), 16):
        few = slice(start, start + 16)
        inputs = torch.cat([noisy[few], poses[few]], dim=1)
        answers.append(pipeline.unet(inputs, timesteps[few], encoder_hidden_states=texts[few]).sample)
    return mse(torch.cat(answers), target)


def standing_people(count: int, size: int = 128) -> list[People]:
    """Poses of `count` single people of Atelier who stand facing the camera, the whole torso in the image."""
    found: list[People] = []
    index = 0
    while len(found) < count:
        people = make_sample(STANDING_SEED, index, size).people
        index += 1
        if people.n == 1 and _stands_facing(people):
            found.append(people)
    return found


def _stands_facing(people: People) -> bool:
    """Torso and legs visible, shoulders and hips the wide way round, hips above knees above ankles."""
    names = (*(COCO17.joints[i] for i in TORSO), "left_knee", "right_knee", "left_ankle", "right_ankle")
    rows = [COCO17.joints.index(name) for name in names]
    if (people.visibility[0, rows] < 2).any():
        return False
    size = people.canvas[0]
    left, right, low_right, low_left, *legs = people.xy[0, rows]
    wide = left[0] - right[0] > size / 10 and low_left[0] > low_right[0]
    upright = min(low_left[1], low_right[1]) - max(left[1], right[1]) > size / 6
    left_knee, right_knee, left_ankle, right_ankle = legs
    stands = low_left[1] < left_knee[1] < left_ankle[1] and low_right[1] < right_knee[1] < right_ankle[1]
    return bool(wide and upright and stands)


@dataclass(frozen=True)
class ColorPrompt:
    """A prompt for one person, and the colour of the top it names."""

    prompt: str
    color: str


def color_prompts(patterns: Sequence[str], tops: Sequence[str] = SEEN_TOPS) -> list[ColorPrompt]:
    """One prompt per colour of COLOURS and pattern; `{clothes}` in a pattern becomes "a red t-shirt"."""
    prompts = []
    for pattern in patterns:
        for index, color in enumerate(COLORS):
            word = COLOR_WORDS[color][0]
            article = "an" if word[0] in "aeiou" else "a"
            prompts.append(ColorPrompt(pattern.format(clothes=f"{article} {word} {tops[index % len(tops)]}"), color))
    return prompts


def color_rate(
    pipeline: HumanSDPipeline, prompts: Sequence[ColorPrompt], people: Sequence[People], steps: int = 20
) -> float:
    """Share of generated images whose mean torso colour is nearest to the colour named in the prompt.

    `people[i % len(people)]`, one person, is the pose of prompt i; distances are taken in CIELAB against COLOURS.
    Chance is 1 / 12.
    """
    hits = 0
    for start in range(0, len(prompts), 16):
        batch = prompts[start : start + 16]
        poses = [people[(start + i) % len(people)] for i in range(len(batch))]
        images = pipeline(
            [one.prompt for one in batch],
            poses,
            num_inference_steps=steps,
            seed=1000 + start,
            output_type="np",
            return_dict=False,
        )[0]
        hits += sum(shows_color(p, pose, one.color) for p, pose, one in zip(images, poses, batch, strict=True))
    return hits / len(prompts)


def shows_color(image: np.ndarray, people: People, color: str) -> bool:
    """Whether the torso of the first person is nearest to `colour`; image (h, w, 3) in [0, 1]."""
    return nearest_color(torso_color(image, people)) == color


def torso_color(image: np.ndarray, people: People) -> np.ndarray:
    """Mean sRGB (3,) in [0, 1] inside the torso of the first person, as `colours.fill_torso` has it.

    image: (h, w, 3) in [0, 1].
    """
    height, width = image.shape[:2]
    mask = fill_torso(people.fit(width, height).xy[0, list(TORSO)], (width, height))
    if mask is None:
        raise ValueError("the torso covers less than 4 px; choose a pose with visible shoulders and hips")
    return image[mask].mean(axis=0)
