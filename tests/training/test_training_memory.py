"""The estimate of a run's memory: numbers known by hand, the network it is of, and a real run beside it."""

import dataclasses
import functools
import json
import sys
from pathlib import Path

import pytest
import torch

import forked
import humansd
import unet_memory
from humansd.models.pocket import UNET
from humansd.training import memory
from humansd.training.counting import Shapes, activation_bytes, frozen_bytes
from humansd.training.memory import arithmetic, weight_bytes
from humansd.training.presets import PRESETS
from humansd.training.run import run_preset
from humansd.training.settings import DiffusionSettings, LoopSettings
from long_tests import long_test

SD15_PLAIN = dataclasses.replace(PRESETS["humansd-sd15"], batch_size=1, loss="ldm", ema_decay=0.999)
SD15_FP32 = dataclasses.replace(SD15_PLAIN, device="cpu", mixed_precision="no")
estimate_memory = functools.cache(memory.estimate_memory)  # several tests ask of the same settings
SCORES = 8 * 4096**2 * 4  # bytes of the attention scores of an image: heads, places of the latent squared, fp32


def gb(settings):
    return estimate_memory(settings)["gb"]


def test_what_autograd_keeps_is_counted_once_and_without_the_weights():
    """Of linear, tanh, linear: the input, and the result of tanh, which is also the second input."""
    with torch.device("meta"):
        module = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.Tanh(), torch.nn.Linear(20, 5))
    shapes = Shapes("line", module, {}, lambda n: module(torch.empty(n, 10, device="meta")))
    assert activation_bytes(shapes, 3, "cpu", False, checkpointing=False) == {
        "activations": 3 * (10 + 20) * 4,
        "working": 2 * 3 * 20 * 4,
    }
    weights = 10 * 20 + 20 + 20 * 5 + 5
    half = activation_bytes(shapes, 3, "cpu", True, checkpointing=False)
    assert half == {"activations": 3 * (10 + 20) * 2 + 2 * weights, "working": 2 * 3 * 20 * 2}


def test_weights_gradients_two_moments_and_averages():
    assert weight_bytes(10, ema=True) == {"weights": 40, "gradients": 40, "AdamW": 80, "averages": 40}
    assert weight_bytes(10, ema=False)["averages"] == 0


def test_stable_diffusion_has_its_published_size_and_keeps_no_scores_of_its_attention():
    told = estimate_memory(SD15_FP32)
    assert told["network"] == "Stable Diffusion 1, 859.5 M parameters learn"
    numbers = told["gb"]
    assert (numbers["weights"], numbers["AdamW"], numbers["averages"]) == (3.438, 6.876, 3.438)
    assert numbers["frozen"] == pytest.approx(4 * (83.65 + 123.06) / 1000, abs=0.002)  # VAE and CLIP ViT-L's text half
    assert numbers["working"] < SCORES / 1e9
    assert numbers["total"] == pytest.approx(sum(numbers.values()) - numbers["total"], abs=0.005)


def test_small_latents_write_their_attention_out_on_a_cpu_and_a_gpu_does_not():
    pocket = DiffusionSettings(method="humansd", device="cpu", mixed_precision="no")
    assert gb(pocket)["activations"] > gb(dataclasses.replace(pocket, device="cuda"))["activations"]


def test_a_gpu_has_no_program_to_count_and_sixteen_bits_take_half():
    cpu, gpu = gb(SD15_FP32), gb(dataclasses.replace(SD15_FP32, device="cuda"))
    assert gpu["activations"] == pytest.approx(cpu["activations"], rel=0.01)
    assert "program" not in gpu
    half = gb(dataclasses.replace(SD15_FP32, mixed_precision="bf16"))
    assert half["activations"] == pytest.approx(cpu["activations"] / 2 + cpu["weights"] / 2, abs=0.002)


def test_on_a_gpu_autocast_keeps_what_norms_read_in_32_bits():
    """Of convolution, norm, convolution: their inputs, in the precision that each computes in, and the norm's
    statistics; the weights in 16 bits beside them."""
    with torch.device("meta"):
        module = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1), torch.nn.GroupNorm(2, 4), torch.nn.Conv2d(4, 4, 1))
    shapes = Shapes("norm", module, {}, lambda n: module(torch.empty(n, 4, 8, 8, device="meta")))
    values, statistics, weights = 2 * 4 * 8 * 8, 2 * 2 * 2 * 4, 4 * 4 + 4 + 4 + 4 + 4 * 4 + 4
    told = activation_bytes(shapes, 2, "cuda", True, checkpointing=False)
    assert told["activations"] == values * (2 + 4 + 2) + statistics + 2 * weights
    assert told["working"] == 2 * values * 4


def test_what_is_computed_without_gradients_counts_at_its_peak():
    """Two of three equal tensors are alive at a time; the first is there before."""
    with torch.device("meta"):
        chain = torch.nn.Sequential(*(torch.nn.ReLU() for _ in range(3)))
        x = torch.empty(100)
    assert frozen_bytes(lambda: chain(x), "cpu", False) == 2 * 400
    assert frozen_bytes(lambda: chain(x), "cpu", True) == 400


def test_the_teacher_and_what_it_computes_are_counted():
    told = estimate_memory(dataclasses.replace(SD15_FP32, loss="heatmap"))
    plain = estimate_memory(SD15_FP32)
    w48 = 63.8e6 * 4 / 1e9
    assert told["frozen_gb"]["teacher higherhrnet-w48"] == pytest.approx(w48, abs=0.002)
    assert told["gb"]["frozen"] == pytest.approx(plain["gb"]["frozen"] + w48, abs=0.002)
    # Decoding an image of 512 px: three maps of 256 channels at full size, of fp32, are alive at one time.
    assert told["working_gb"]["the loss's guide"] == pytest.approx(3 * 256 * 512**2 * 4 / 1e9, rel=0.01)
    assert told["gb"]["working"] == max(told["working_gb"].values())
    pocket = dataclasses.replace(PRESETS["pocket-humansd"], device="cuda", mixed_precision="no")
    small, large, reference = (
        estimate_memory(dataclasses.replace(pocket, loss=loss, batch_size=count))["working_gb"]["the loss's guide"]
        for loss, count in (("heatmap", 8), ("heatmap", 32), ("reference", 8))
    )
    assert large == pytest.approx(4 * small, rel=0.02)
    assert reference >= small > 0


def test_a_card_of_24_gb_has_room_for_stable_diffusion_15_with_the_paper_s_loss():
    told = json.loads(run_preset("humansd-sd15-24gb", {}, dry_run=True))
    assert told["settings"]["loss"] == "heatmap"
    assert told["memory"]["frozen_gb"].keys() == {"vae", "text_encoder", "teacher higherhrnet-w48"}
    assert told["memory"]["gb"]["total"] < 22
    assert told["memory"]["before_the_first_step_gb"]["weights, frozen, encoding the images"] < 22
    whole = json.loads(run_preset("humansd-sd15", {"device": "cuda"}, dry_run=True))
    assert whole["memory"]["gb"]["total"] > 22
    same = {key for key, value in told["settings"].items() if value == whole["settings"][key]}
    assert set(told["settings"]) - same == {"gradient_accumulation_steps", "gradient_checkpointing"}


def test_gradient_checkpointing_and_parts_of_a_batch_save_memory():
    told = estimate_memory(dataclasses.replace(SD15_FP32, batch_size=4, gradient_checkpointing=True))
    sums = told["activations_and_working_gb"]
    assert sums["gradient_checkpointing on"] < 0.5 * sums["gradient_checkpointing off"]
    assert told["gb"]["activations"] + told["gb"]["working"] == pytest.approx(
        sums["gradient_checkpointing on"], abs=0.002
    )
    whole, parts = (gb(dataclasses.replace(SD15_FP32, batch_size=4, gradient_accumulation_steps=one)) for one in (1, 4))
    assert parts["activations"] == pytest.approx(whole["activations"] / 4, rel=0.01)


def test_without_averages_none_are_counted():
    pocket = PRESETS["pocket-base"]
    assert gb(pocket)["averages"] > gb(dataclasses.replace(pocket, ema_decay=0.0))["averages"] == 0


def test_a_text_encoder_that_learns_is_not_frozen():
    frozen, learning = (gb(dataclasses.replace(PRESETS["pocket-base"], train_text=one)) for one in (False, True))
    moved = learning["weights"] - frozen["weights"]
    assert moved > 0
    assert frozen["frozen"] - learning["frozen"] == pytest.approx(moved, abs=0.001)


def test_a_local_base_gives_its_own_sizes(tmp_path):
    (tmp_path / "unet").mkdir()
    config = {**UNET, "block_out_channels": (32, 64, 96), "in_channels": 8}
    (tmp_path / "unet" / "config.json").write_text(json.dumps(config))
    settings = DiffusionSettings(base_model=str(tmp_path), method="humansd")
    told, usual = estimate_memory(settings), estimate_memory(DiffusionSettings(method="humansd"))
    assert told["network"].startswith(str(tmp_path))
    assert told["gb"]["weights"] < 0.5 * usual["gb"]["weights"]


def test_a_hub_id_that_is_not_known_is_supposed_to_be_stable_diffusion():
    told = estimate_memory(DiffusionSettings(base_model="somebody/painter", method="humansd", device="cpu"))
    assert told["network"] == "somebody/painter, supposed to be a Stable Diffusion 1, 859.5 M parameters learn"


def test_networks_that_do_not_fit_are_refused():
    pocket = str(Path(humansd.__file__).parent / "weights" / "pocket")
    settings = DiffusionSettings(base_model="stable-diffusion-v1-5/stable-diffusion-v1-5", components=pocket)
    with pytest.raises(ValueError, match=r"takes 4 channels and gives 4; on latents of 6 .*one family"):
        estimate_memory(settings)
    with pytest.raises(ValueError, match="use a multiple of 3"):
        estimate_memory(dataclasses.replace(SD15_FP32, gradient_accumulation_steps=3))


def test_a_gpu_that_is_elsewhere_is_taken_to_be_fast_at_bf16():
    assert arithmetic(LoopSettings(device="cuda", mixed_precision="no")) == ("cuda", False)
    assert arithmetic(LoopSettings(device="cpu", mixed_precision="bf16")) == ("cpu", True)
    if not torch.cuda.is_available():
        assert arithmetic(LoopSettings(device="cuda")) == ("cuda", True)


def dry(name):
    """The rivals on another base are counted by the same lines."""
    return pytest.param(name, marks=long_test) if name.endswith("-sd21") else name


STAGES = [name for name, one in PRESETS.items() if isinstance(one, LoopSettings) and not name.startswith("humansd")]


@pytest.mark.parametrize("name", [dry(one) for one in STAGES])
def test_every_dry_run_tells_its_memory_without_weights_or_data(name, tmp_path, monkeypatch):
    """Those of HumanSD itself are in test_training_presets, the recipe of all stages is in test_training_recipe."""
    monkeypatch.chdir(tmp_path)
    told = json.loads(run_preset(name, {}, tmp_path / "run", dry_run=True))["memory"]
    assert told["gb"]["total"] > told["gb"]["activations"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of a process as Linux tells it")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_estimate_is_near_a_real_run(checkpointing):
    """Steps of the pocket UNet in a process of its own."""
    measured, estimated = forked.result(unet_memory.measured_and_estimated, checkpointing)
    assert estimated == pytest.approx(measured, rel=0.2)
