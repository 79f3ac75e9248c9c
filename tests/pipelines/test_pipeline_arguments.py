"""Wrong arguments are refused in one line that names them, before anything is computed."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, LCMScheduler

from humansd.cli import main
from humansd.pipelines import HumanSDPipeline
from humansd.pipelines.schedulers import private_copy
from humansd.pose.formats import write_poses
from humansd.training.tasks.diffusion_networks import load_scheduler
from tiny_pipeline import standing, tiny_components

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def pipe() -> HumanSDPipeline:
    pipe = HumanSDPipeline(**tiny_components())
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.register_forward_pre_hook(lambda *_: pytest.fail("the UNet ran"))
    return pipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inference_steps": 2.5}, "num_inference_steps is 2.5; it must be a whole number"),
        ({"num_inference_steps": True}, "num_inference_steps is True"),
        ({"num_inference_steps": "4"}, "num_inference_steps is '4'"),
        ({"height": 128.0}, "height is 128.0; it must be a whole number"),
        ({"width": "16"}, "width is '16'"),
        ({"seed": "a"}, "seed is 'a'; it must be a whole number"),
        ({"seed": 2**64}, "seed is 18446744073709551616; it must be from 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"guidance_scale": NAN}, "guidance_scale is nan; it must be a finite number"),
        ({"guidance_scale": INF}, "guidance_scale is inf"),
        ({"pose_guidance_scale": -INF}, "pose_guidance_scale is -inf"),
        ({"guidance_scale": "5"}, "guidance_scale is '5'"),
        ({"guidance_rescale": 2.0}, "guidance_rescale is 2.0; it must be from 0 to 1"),
        ({"eta": NAN}, "eta is nan"),
        ({"num_images_per_prompt": 1.0}, "num_images_per_prompt is 1.0"),
        ({"prompt": "a \ud800 man"}, "lone surrogate"),
        ({"negative_prompt": "a \udfff man"}, "negative_prompt .* lone surrogate"),
        ({"guidance_start": NAN}, "guidance_start is nan"),
    ],
)
def test_values_of_another_kind(pipe, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        pipe(**{"prompt": "a man", "pose": standing()} | options)
    assert "\n" not in str(caught.value)


def test_numpys_whole_numbers_are_whole_numbers():
    pipe = HumanSDPipeline(**tiny_components())
    pipe.set_progress_bar_config(disable=True)
    made = pipe("a man", num_inference_steps=np.int64(2), seed=np.int32(7), height=np.int64(16))
    assert made.seeds == [7]


@pytest.mark.parametrize(
    "guidance", [{"txt": 5.0}, {"text": "5"}, {"text": NAN}, [5.0, 1.0], 5.0, {"text": True}, {"text": None}]
)
def test_a_folders_guidance_of_another_shape(tmp_path, guidance):
    HumanSDPipeline(**tiny_components()).save_pretrained(tmp_path)
    file = tmp_path / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"guidance": guidance}))
    (tmp_path / "digests.json").unlink()
    with pytest.raises(ValueError, match=r"guidance is .*finite numbers"):
        HumanSDPipeline.from_pretrained(tmp_path)


# -- schedulers that take the UNet's output for something else ------------------------------


def test_another_prediction_type_is_refused_by_name():
    pipe = HumanSDPipeline(**tiny_components())  # predicts velocity
    epsilon = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    with pytest.raises(ValueError, match=r"EulerDiscreteScheduler has prediction_type 'epsilon'.*'v_prediction'"):
        pipe("a man", scheduler=epsilon)
    pipe.scheduler = epsilon
    with pytest.raises(ValueError, match=r"EulerDiscreteScheduler\.from_config"):
        pipe("a man")


def test_latents_are_not_clipped_whatever_the_config_leaves_out(tmp_path):
    config = EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).config
    clips = DDIMScheduler.from_config(config)
    assert clips.config.clip_sample  # the class's own value, where a model's scheduler was no DDIM
    assert not private_copy(clips).config.clip_sample
    assert clips.config.clip_sample  # the caller's stays
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(config)))
    assert not load_scheduler(str(tmp_path), False).config.clip_sample  # which is exported with what was trained
    pipe = HumanSDPipeline(**tiny_components())
    pipe.set_progress_bar_config(disable=True)
    both = [DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=one) for one in (False, True)]
    asked = {"seed": 1, "num_inference_steps": 2, "output_type": "latent"}
    images = [pipe("a man", scheduler=one, **asked).images for one in both]
    assert torch.equal(*images)


def test_a_scheduler_without_sample_prediction_is_refused():
    config = dict(tiny_components()["scheduler"].config) | {"prediction_type": "sample"}
    pipe = HumanSDPipeline(**tiny_components() | {"scheduler": DDIMScheduler.from_config(config)})
    pipe.set_progress_bar_config(disable=True)
    with pytest.raises(ValueError, match="HeunDiscreteScheduler cannot work with sample prediction"):
        pipe("a man", scheduler=HeunDiscreteScheduler.from_config(config))
    assert len(pipe("a man", num_inference_steps=2).images) == 1


def test_mush_is_warned_of():
    pipe = HumanSDPipeline(**tiny_components())
    pipe.set_progress_bar_config(disable=True)
    other = DDIMScheduler(beta_schedule="linear", prediction_type="v_prediction")
    with pytest.warns(UserWarning, match="another noise schedule"):
        pipe("a man", num_inference_steps=2, scheduler=other)
    with pytest.warns(UserWarning, match="LCMScheduler is for weights distilled"):
        pipe("a man", num_inference_steps=2, scheduler=LCMScheduler.from_config(pipe.scheduler.config))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pipe("a man", num_inference_steps=2, scheduler=EulerDiscreteScheduler.from_config(pipe.scheduler.config))
        pipe("a man", num_inference_steps=2)


def test_half_precision_on_a_cpu_says_so(tmp_path):
    from humansd.inference.pretrained import load_pipeline

    HumanSDPipeline(**tiny_components()).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="fp16 on a CPU"):
        assert load_pipeline(str(tmp_path), "cpu", dtype="fp16").unet.dtype == torch.float16
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert load_pipeline(str(tmp_path), "cpu", dtype="auto").unet.dtype == torch.float32


# -- the command line ------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "2.5"], "2.5"),
        (["--steps", "100000"], "steps is 100000"),
        (["--seed", str(2**64)], "seed is"),
        (["--seed", "a"], "'a'"),
        (["--guidance", "nan"], "guidance_scale is nan"),
        (["--pose-guidance", "inf"], "pose_guidance_scale is inf"),
        (["--guidance-rescale", "7"], "rescale is 7.0"),
        (["--guidance-steps", "0.9-0.1"], "0.9-0.1"),
        (["--size", "0x16"], "0x16"),
    ],
)
def test_the_command_refuses_them_before_it_loads_a_model(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    write_poses(tmp_path / "pose.json", {"pose": standing()}, "coco")
    command = ["generate", "a man", "--pose", "pose.json", "--model", "./no/such/model", *options]
    try:
        status = main(command)
    except SystemExit as error:  # argparse's own
        status = int(error.code or 0)
    err = capsys.readouterr().err
    assert status == 2
    assert message in err.splitlines()[-1]
