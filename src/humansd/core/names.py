"""What things were called in earlier versions: read, never written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMER = {
    "accumulation": "gradient_accumulation_steps",
    "gradient_clip": "max_grad_norm",
    "warmup_steps": "lr_warmup_steps",
    "schedule": "lr_scheduler",
    "tracker": "report_to",
    "pose_guidance": "pose_guidance_scale",
    "pictures": "images",
    "vae_pictures": "vae_images",
    "guided_pictures": "finetune_images",
    "guided_seed": "finetune_seed",
    "guided": "finetune",
    "towers": "clip",
    "judge": "centernet",
    "judge_seed": "held_out_seed",
    "variants": "cached_augmentations",
    "preview_minutes": "log_images_minutes",
    "colour_weight": "color_weight",
    "licence": "license",
    "guidance": "guidance_scale",
    "negative": "negative_prompt",
    "rescale": "guidance_rescale",
}
# Where the value is text: the recipe has a stage `base`, and a sample may have `parts`.
FORMER_FOLDERS = {
    "base": "base_model",
    "parts": "components",
    "base_weights": "base_model_weights",
    "parts_weights": "components_weights",
    "base_config": "base_model_config",
    "parts_config": "components_config",
}
FORMER_METHODS = {"none": "sd", "concat": "humansd"}  # of the setting `pose`
FORMER_SAMPLING = {"steps": "num_inference_steps"}
FORMER_ESTIMATORS = {"judge": "centernet"}  # names that were settings' values


def renamed(values: Any) -> Any:
    """JSON values with former keys under the names of now, at any depth."""
    if isinstance(values, Mapping):
        if "loss" in values and str(values.get("pose")) in FORMER_METHODS:
            values = {**values, "method": FORMER_METHODS[values["pose"]]}
            del values["pose"]
        return {_key(key, value): _value(key, value) for key, value in values.items()}
    return [renamed(value) for value in values] if isinstance(values, list) else values


def renamed_sampling(values: Any) -> Any:
    """As `renamed`, of how images are drawn: there `steps` are of the denoising."""
    changed = renamed(values)
    if isinstance(changed, Mapping):
        changed = {FORMER_SAMPLING.get(key, key): value for key, value in changed.items()}
    return changed


def present_name(key: str) -> str:
    """The name of now of a setting; `stage.setting` too."""
    *stages, name = (FORMER.get(part, part) for part in key.split("."))
    return ".".join([*stages, FORMER_FOLDERS.get(name, name)])


def _key(key: str, value: Any) -> str:
    key = FORMER.get(key, key)
    return FORMER_FOLDERS.get(key, key) if isinstance(value, str) else key


def _value(key: str, value: Any) -> Any:
    return FORMER_ESTIMATORS.get(value, value) if key == "kind" and isinstance(value, str) else renamed(value)
