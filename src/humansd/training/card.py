"""The model card of a pocket model: what it is, from what, how it was trained, what it cannot do."""

from __future__ import annotations

from typing import Any

from humansd.models.pocket import SEEN_SIZE
from humansd.synthetic.plan import SCENES
from humansd.training.settings import PocketRecipe

CARD = """---
license: apache-2.0
library_name: diffusers
tags: [pose, human, latent-diffusion, humansd]
---

# HumanSD pocket

A small Stable Diffusion of a rendered world. It draws clothed adults in the poses of given key points, {size} x {size}
px, in the {n_scenes} scene styles of Atelier, the image source of the `humansd` package. It runs on a CPU.

| part | class | parameters |
|---|---|---|
{parts}

Weights are the averaged (EMA) ones in fp16 safetensors; compute in fp32 on a CPU. `clip` holds the text and the image
tower that were trained together; the pipeline's `text_encoder` began as its text half and learnt on with the base.

## Data
{images:,} images of Atelier (seed {seed}), and {finetune_images:,} others (seed {finetune_seed}) for `head` and
`finetune`, rendered by this repository's code from MakeHuman's CC0 body data. No photograph and no image of a real
person was used.

## Training
`make pocket` trains such a model from nothing; the same command resumes. `training.json` holds every setting. Hours
count the training steps, not the rendering of the images; the loss is the one that was minimised, over the last
tenth of the stage.
{history}
| stage | steps | samples | hours | loss | device |
|---|---|---|---|---|---|
{stages}

The base model is plain Stable Diffusion; HumanSD starts from it, with the skeleton's latent concatenated. There an
error on a person counts {person} times one beside people (`skeleton-mask`). In `finetune` it learns on with the
heatmap-guided loss, joints counting up to {joint} times (`latent-heatmap`, by the heatmaps of `head`).

## Variants
`one-branch` needs one UNet call a step and draws where no variant is named, in {one_branch_steps} steps. `four-steps`
needs {few_calls} calls in all and brings the small decoder, `tiny_decoder`. Both are small changes of the UNet; `full`
is the UNet itself, with which training begins.

## Limits
- It knows Atelier and nothing else: about five hundred words, 18 styles, 13 places, people of one kind of rendering.
  Names, animals, objects and text are unknown to it. Do not compare it with Stable Diffusion.
- Faces and hands are a few pixels. Crossed limbs and people behind each other are often wrong.
- How often pose, caption and colour words are followed is measured by `tests/training/test_pocket_weights.py`; the
  README has the numbers. Colour words are missed in more than a third of the images.
- The full UNet draws its clearest people with guidance {guidance:g} and pose guidance {pose_guidance_scale:g}, which
  it takes where nothing else is asked.
- It was trained on clothed adults only.

## Licence
Apache-2.0, like the code. The body data are MakeHuman's, CC0.
"""


def model_card(
    recipe: PocketRecipe, parts: dict[str, tuple[str, int]], stages: dict[str, dict[str, Any]], history: str = ""
) -> str:
    """The card as Markdown.

    Args:
        parts: name -> (class, parameters).
        stages: name -> steps, samples, seconds, loss, devices.
        history: what whoever trained it wants said of the training.
    """
    part_rows = [f"| {name} | {kind} | {count / 1e6:.2f} M |" for name, (kind, count) in parts.items()]
    stage_rows = [
        f"| {name} | {one['step']:,} | {one['samples']:,} | {one['seconds'] / 3600:.2f} "
        f"| {one['loss']} | {'; '.join(one['devices'])} |"
        for name, one in stages.items()
    ]
    return CARD.format(
        size=recipe.size,
        n_scenes=len(SCENES),
        images=recipe.images,
        seed=recipe.seed,
        parts="\n".join(part_rows),
        stages="\n".join(stage_rows),
        finetune_images=recipe.finetune_images,
        finetune_seed=recipe.finetune_seed,
        joint=f"{1 + recipe.finetune.heatmap_strength:g}",
        one_branch_steps=recipe.one_branch.inference_steps,
        few_calls=recipe.four_steps.inference_steps,
        guidance=recipe.finetune.guidance_scale,
        pose_guidance_scale=recipe.finetune.pose_guidance_scale,
        person=f"{1 + recipe.humansd.mask_strength:g}" if recipe.humansd.loss == "skeleton-mask" else "1",
        history=f"\n{history.strip()}\n" if history.strip() else "",
    )


ESTIMATOR_CARD = """---
license: apache-2.0
tags: [pose, human, keypoints, humansd]
---

# {title}

Finds the 17 COCO joints of people in images of {size} x {size} px. {architecture}.
Large kernels are stored as int8 with a scale for each output channel, the rest as fp16; all is computed in fp32.

## Data
{images:,} images of Atelier (seed {seed}), rendered by this repository's code from MakeHuman's CC0 body data,
changed at random in place, size, turn, light, colour, blur and noise. No photograph of a real person was used.

## Training
`make pocket` trains it from nothing, or `humansd train pocket-{name}`: {steps:,} steps, {samples:,} samples,
{hours:.2f} hours on {devices}.
{measured}
## Limits
- It learnt rendered people and sees hardly anything in photographs: use `movenet` there.
- People lying, upside down or bent double are missed most; of people seen from behind it may exchange left and right.

## Licence
Apache-2.0, like the code.
"""

ESTIMATORS = {
    "higherhrnet": (
        "HigherHRNet pocket",
        "Architecture: HigherHRNet (Cheng et al., CVPR 2020) in its smallest form here",
    ),
    "centernet": (
        "Judge",
        "Architecture: a heatmap of people's centres with offsets to their joints, in the manner of CenterNet "
        "(Zhou et al.\n2019), another than HigherHRNet's, and other images: it only evaluates",
    ),
}


def estimator_card(recipe: PocketRecipe, name: str, stage: dict[str, Any], measured: str = "") -> str:
    """The card of the pocket estimator `name` as Markdown.

    stage: steps, samples, seconds, devices. measured: what was measured of it, in words.
    """
    title, architecture = ESTIMATORS[name]
    return ESTIMATOR_CARD.format(
        title=title,
        architecture=architecture,
        name=name,
        size=SEEN_SIZE,
        images=recipe.images,
        seed=recipe.held_out_seed if name == "centernet" else recipe.seed,
        steps=stage["step"],
        samples=stage["samples"],
        hours=stage["seconds"] / 3600,
        devices=", ".join(stage["devices"]),
        measured=f"\n## Measured\n{measured.strip()}\n" if measured.strip() else "",
    )
