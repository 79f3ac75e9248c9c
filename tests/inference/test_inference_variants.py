"""Small changes beside a model: listed, chosen, refused, added to the weights, and told of in the image."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from humansd.cli import main
from humansd.data import write_shards
from humansd.inference.generate import Model
from humansd.inference.image_info import read_png_info
from humansd.inference.pretrained import load_pipeline
from humansd.inference.variants import Variant, read_variants, write_variant
from humansd.models.codec import encode_images
from humansd.models.errors import ModelError
from humansd.models.lora import write_unet_lora
from humansd.models.tiny_decoder import TinyDecoder
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.formats import write_poses
from humansd.training.loop import train
from humansd.training.settings import TinyDecoderSettings
from humansd.training.tasks.tiny_decoder import TinyDecoderTask
from shard_makers import make
from tiny_pipeline import CHANNELS, standing, tiny_components


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with two variants and a small decoder; "loud" draws where nothing is named."""
    folder = tmp_path_factory.mktemp("variants") / "model"
    parts = tiny_components()
    HumanSDPipeline(**parts).save_pretrained(folder)
    parts["unet"].add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "conv1"]))
    layers = {}
    for number, name in enumerate(("loud", "quick")):
        torch.manual_seed(number)
        layers = {key: torch.randn_like(one) * 0.3 for key, one in get_peft_model_state_dict(parts["unet"]).items()}
        write_unet_lora(layers, folder.parent / f"{name}.safetensors")
    TinyDecoder(CHANNELS, 8, (1, 1)).save_pretrained(folder / "tiny_decoder")
    loud = Variant(3, guidance_scale=2.0, pose_guidance_scale=1.0, scheduler="dpm++-2m")
    write_variant(folder, "loud", folder.parent / "loud.safetensors", loud, default=True)
    write_variant(folder, "quick", folder.parent / "quick.safetensors", Variant(2, scheduler="ddim", decoder="tiny"))
    return folder


def drawn(pipeline, **options):
    pipeline.set_progress_bar_config(disable=True)
    return pipeline("a man running", standing(), seed=1, output_type="np", **options).images[0]


def test_the_list_names_what_lies_beside_the_model(model):
    found = read_variants(model)
    assert found.default == "loud"
    assert list(found.named) == ["loud", "quick"]
    assert found.named["quick"] == Variant(2, scheduler="ddim", decoder="tiny")
    assert (model / "variants" / "quick.safetensors").stat().st_size < 100_000


def test_the_default_draws_and_its_settings_travel_with_it(model):
    pipeline = load_pipeline(str(model), "cpu")
    assert (pipeline.variant, pipeline.default_steps, pipeline.guidance.text) == ("loud", 3, 2.0)
    assert type(pipeline.scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert pipeline.tiny_decoder is None
    quick = load_pipeline(str(model), "cpu", variant="quick")
    assert (quick.variant, quick.default_steps, type(quick.scheduler).__name__) == ("quick", 2, "DDIMScheduler")
    assert quick.tiny_decoder is not None
    images = [drawn(load_pipeline(str(model), "cpu", variant=name)) for name in ("", "loud", "quick", "full")]
    assert np.array_equal(images[0], images[1])
    assert not np.allclose(images[1], images[2])


def test_full_is_the_unet_as_it_is(model):
    plain, full = HumanSDPipeline.from_pretrained(model), load_pipeline(str(model), "cpu", variant="full")
    weights, others = plain.unet.state_dict(), full.unet.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(one, others[name]) for name, one in weights.items())
    assert full.variant == ""


def test_a_variant_is_added_to_the_weights_and_answers_as_its_lora(model):
    fused = load_pipeline(str(model), "cpu", variant="quick")
    lora = HumanSDPipeline.from_pretrained(model)
    lora.load_lora_weights(model / "variants", weight_name="quick.safetensors")
    assert fused.unet.state_dict().keys() == HumanSDPipeline.from_pretrained(model).unet.state_dict().keys()
    noisy, text, at = torch.randn(1, 2 * CHANNELS, 8, 8), torch.randn(1, 12, 16), torch.tensor([500])
    with torch.no_grad():
        assert torch.allclose(fused.unet(noisy, at, text).sample, lora.unet(noisy, at, text).sample, atol=1e-4)


def test_the_small_decoder_takes_the_vae_s_place_and_can_be_refused(model):
    quick = load_pipeline(str(model), "cpu", variant="quick")
    slow = load_pipeline(str(model), "cpu", variant="quick", decoder="full")
    latents = torch.randn(2, CHANNELS, 8, 8)
    with torch.no_grad():
        assert torch.allclose(quick.decode(latents), quick.tiny_decoder(latents))
        assert quick.decode(latents).shape == slow.decode(latents).shape == (2, 3, 16, 16)
    assert not np.allclose(drawn(quick), drawn(slow))
    assert quick.sibling(HumanSDPipeline).tiny_decoder is quick.tiny_decoder


def test_half_precision_rounds_after_the_change_is_added(model):
    half = load_pipeline(str(model), "cpu", variant="quick", dtype="bf16")
    whole = load_pipeline(str(model), "cpu", variant="quick")
    assert half.unet.dtype == torch.bfloat16
    pairs = zip(half.unet.state_dict().values(), whole.unet.state_dict().values(), strict=True)
    assert all(torch.equal(one, other.bfloat16()) for one, other in pairs)
    assert np.isfinite(drawn(half)).all()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"variant": "fast"}, "has no variant 'fast'; choose one of full, loud, quick"),
        ({"decoder": "small"}, "decoder is 'small'; choose one of full, tiny"),
    ],
)
def test_what_the_model_does_not_have_is_refused_by_name(model, options, told):
    with pytest.raises(ValueError, match=told):
        load_pipeline(str(model), "cpu", **options)


def test_a_model_without_variants_draws_as_ever(tmp_path):
    HumanSDPipeline(**tiny_components()).save_pretrained(tmp_path / "plain")
    assert load_pipeline(str(tmp_path / "plain"), "cpu").variant == ""
    with pytest.raises(ModelError, match="has no small decoder; use --decoder full"):
        load_pipeline(str(tmp_path / "plain"), "cpu", decoder="tiny")
    with pytest.raises(ModelError, match="folders alone"):
        load_pipeline("someone/model", "cpu", variant="quick")


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"default": "gone", "variants": {}},
        {"default": "full", "variants": {"../up": {"num_inference_steps": 2}}},
        {"default": "full", "variants": {"full": {"num_inference_steps": 2}}},
        {"default": "full", "variants": {"a": {"num_inference_steps": 0}}},
        {"default": "full", "variants": {"a": {"num_inference_steps": 2, "scheduler": "magic"}}},
        {"default": "full", "variants": {"a": {"num_inference_steps": 2, "guidance_scale": float("inf")}}},
        {"default": "full", "variants": {"a": {"num_inference_steps": 2, "file": "x"}}},
        {"default": "full", "variants": {"a": {"num_inference_steps": 2}}},  # its file is missing
    ],
)
def test_a_damaged_list_is_named_with_the_remedy(tmp_path, values):
    (tmp_path / "variants").mkdir()
    (tmp_path / "variants" / "variants.json").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=r"variants.json: .*copy the folder again"):
        read_variants(tmp_path)


def test_a_change_that_was_tampered_with_is_found(model, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    file = copy / "variants" / "quick.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelError, match="is not what it was when the folder was written"):
        load_pipeline(str(copy), "cpu", variant="quick")


def test_an_image_says_which_variant_and_decoder_drew_it(model, tmp_path):
    write_poses(tmp_path / "pose.json", {"pose": standing()}, "humansd")
    line = ["generate", "a man", "--pose", str(tmp_path / "pose.json"), "--model", str(model), "--n", "1"]
    assert main([*line, "--variant", "quick", "--out", str(tmp_path / "quick")]) == 0
    assert main([*line, "--variant", "full", "--out", str(tmp_path / "full")]) == 0
    told = {}
    for name in ("quick", "full"):
        told[name] = read_png_info(next(iter((tmp_path / name).glob("*seed0.png"))))["settings"]
    assert (told["quick"]["variant"], told["quick"]["decoder"]) == ("quick", "tiny")
    assert (told["quick"]["num_inference_steps"], told["quick"]["guidance_scale"]) == (2, 1.0)
    assert {"variant", "decoder"}.isdisjoint(told["full"])


def test_a_lora_is_put_into_a_folder_by_command(tmp_path, model, capsys):
    HumanSDPipeline(**tiny_components()).save_pretrained(tmp_path / "plain")
    line = ["convert", "variant", str(model.parent / "loud.safetensors"), "--model", str(tmp_path / "plain")]
    assert main([*line, "--name", "loud", "--steps", "5", "--scheduler", "ddim", "--default"]) == 0
    assert "--variant loud" in capsys.readouterr().out
    pipeline = load_pipeline(str(tmp_path / "plain"), "cpu")
    assert (pipeline.variant, pipeline.default_steps) == ("loud", 5)
    assert main([*line, "--name", "Full!", "--steps", "5"]) == 2
    assert "use small letters, digits and hyphens" in capsys.readouterr().err
    assert main([*line[:2], str(model / "unet"), *line[3:], "--name", "other", "--steps", "5"]) == 2
    assert "name a LoRA" in capsys.readouterr().err


def test_records_of_two_variants_differ(model):
    records = []
    for name in ("loud", "quick"):
        choice = Model(str(model), "cpu", "fp32", variant=name)
        records.append(choice.record(choice.load()))
    assert records[0]["variant"] == "loud"
    assert records[0] != records[1]


def test_a_small_decoder_learns_its_vae_s_latents(tmp_path):
    torch.manual_seed(0)
    vae = tiny_components()["vae"]
    vae.save_pretrained(tmp_path / "vae")
    write_shards(make, 6, tmp_path / "data", per_shard=6, workers=1, progress=False)
    settings = TinyDecoderSettings(
        data=str(tmp_path / "data"), image_size=16, init=str(tmp_path / "vae"), crop=16, width=8, blocks="1 1",
        steps=30, batch_size=8, learning_rate=5e-3, lr_warmup_steps=1, skeleton_share=0.0, ema_decay=0.0,
        mixed_precision="no", report_to="none",
    )  # fmt: skip
    task = TinyDecoderTask(settings)
    before = {name: one.clone() for name, one in task.vae.state_dict().items()}
    task.prepare(torch.device("cpu"))
    batch = task.load(range(16))
    first, numbers = task.loss(batch)
    assert {"psnr", "pixels", "edges", "colors"} <= numbers.keys()
    train(task, tmp_path / "run")
    assert float(task.loss(batch)[0]) < 0.8 * float(first)
    assert all(torch.equal(one, before[name]) for name, one in task.vae.state_dict().items())
    read = TinyDecoder.from_pretrained(tmp_path / "run" / "export")
    with torch.no_grad():
        latents = encode_images(task.vae, batch)
        assert torch.allclose(read(latents), task.module(latents), atol=1e-5)


def test_a_decoder_of_another_factor_is_refused(tmp_path):
    tiny_components()["vae"].save_pretrained(tmp_path / "vae")
    write_shards(make, 2, tmp_path / "data", per_shard=2, workers=1, progress=False)
    settings = {"data": str(tmp_path / "data"), "image_size": 16, "crop": 16, "init": str(tmp_path / "vae")}
    with pytest.raises(ValueError, match="decode to 8 times the latents' side, and the VAE's is 2"):
        TinyDecoderTask(TinyDecoderSettings(**settings))
    with pytest.raises(ValueError, match="init is empty"):
        TinyDecoderTask(TinyDecoderSettings(**{**settings, "init": ""}))
