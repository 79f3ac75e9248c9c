"""What is recorded of how an image was drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from humansd.inference.sampling import RECORDED, SamplingConfig


@dataclass(frozen=True)
class Later(SamplingConfig):
    """A version with one option more."""

    churn: float = 0.0


def test_an_option_more_leaves_older_records_what_they_were():
    asked = {"num_inference_steps": 8, "guidance_scale": 4.0, "size": (64, 64), "scheduler": "ddim"}
    assert Later(**asked).record() == SamplingConfig(**asked).record() == asdict(SamplingConfig(**asked))
    assert Later(churn=0.5).record() == {**SamplingConfig().record(), "churn": 0.5}
    assert asdict(SamplingConfig()).keys() == RECORDED


def test_what_was_asked_for_is_told_by_name():
    assert SamplingConfig().changed() == []
    assert SamplingConfig(num_inference_steps=8, guidance_end=0.8).changed() == ["num_inference_steps", "guidance_end"]
