"""What is recorded of how an image was drawn, and what of it reaches the pipeline."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from humansd import load_pipeline
from humansd.inference.sampling import RECORDED, SamplingConfig

FIRST = {  # the options of the first version that had records
    *("num_inference_steps", "guidance_scale", "pose_guidance_scale", "negative_prompt", "size", "scheduler"),
    *("guidance_start", "guidance_end", "guidance_rescale", "clip_skip"),
}


@dataclass(frozen=True)
class Later(SamplingConfig):
    """A version with one option more."""

    churn: float = 0.0


def test_an_option_more_leaves_older_records_what_they_were():
    asked = {"num_inference_steps": 8, "guidance_scale": 4.0, "size": (64, 64), "scheduler": "ddim"}
    record = SamplingConfig(**asked).record()
    assert Later(**asked).record() == record
    assert record == {name: value for name, value in asdict(SamplingConfig(**asked)).items() if name in FIRST}
    assert Later(churn=0.5).record() == {**SamplingConfig().record(), "churn": 0.5}
    assert RECORDED == FIRST  # an option that is added to it changes what every older record says


def test_what_is_recorded_reaches_the_pipeline():
    pipeline = load_pipeline("pocket")
    known = {field.name for field in fields(SamplingConfig)} - {"size"} | {"width", "height"}
    options = SamplingConfig(size=(128, 128), scheduler="ddim").options(pipeline)
    assert set(options) == known
    assert set(Later().options(pipeline)) == known - {"width", "height"} | {"churn"}
    assert type(options["scheduler"]).__name__ == "DDIMScheduler"


def test_what_was_asked_for_is_told_by_name():
    assert SamplingConfig().changed() == []
    assert SamplingConfig(num_inference_steps=8, guidance_end=0.8).changed() == ["num_inference_steps", "guidance_end"]
