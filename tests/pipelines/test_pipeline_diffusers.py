"""What a diffusers user expects: embeds, latents, schedules, LoRA, IP-Adapter, callbacks, offload, folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from diffusers import (
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.callbacks import SDCFGCutoffCallback
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModelWithProjection

from humansd.inference.sampling import SamplingConfig
from humansd.models.codec import encode_text
from humansd.models.widen import widen_conv_in
from humansd.pipelines import Guidance, HumanSDPipeline
from humansd.pipelines.schedulers import SCHEDULERS, make_scheduler
from humansd.pose import People
from tiny_pipeline import CHANNELS, SIZE, standing, tiny_components, tiny_unet

STEPS = 4
WORDS = "a man running"


def make(**kwargs) -> HumanSDPipeline:
    pipe = HumanSDPipeline(**tiny_components() | kwargs)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe() -> HumanSDPipeline:
    return make()


def images(pipe: HumanSDPipeline, *args, **kwargs) -> np.ndarray:
    options = {"num_inference_steps": STEPS, "output_type": "np", "seed": 3} | kwargs
    return pipe(*args, **options).images


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


# -- texts ------------------------------


def test_embeds_stand_for_prompts(pipe):
    want = images(pipe, [WORDS, "a park"], standing(), negative_prompt="blurred")
    embeds, negative = pipe.encode_prompt([WORDS, "a park"]), pipe.encode_prompt(["blurred"])
    assert apart(images(pipe, None, standing(), prompt_embeds=embeds, negative_prompt_embeds=negative), want) == 0
    assert apart(images(pipe, None, standing(), prompt_embeds=embeds, negative_prompt="blurred"), want) == 0
    with pytest.raises(ValueError, match="both prompt and prompt_embeds"):
        images(pipe, WORDS, prompt_embeds=embeds)
    with pytest.raises(ValueError, match="pad them to one length"):
        images(pipe, prompt_embeds=torch.cat([embeds, embeds], dim=1))
    with pytest.raises(ValueError, match="3 wide, this UNet reads 16"):
        images(pipe, prompt_embeds=embeds[..., :3], negative_prompt_embeds=embeds[..., :3])


def test_clip_skip_reads_an_earlier_layer():
    parts = tiny_components()
    config = parts["text_encoder"].config
    config.num_hidden_layers = 3
    torch.manual_seed(5)
    pipe = make(text_encoder=type(parts["text_encoder"])(config).eval())
    ids = pipe.tokenizer(WORDS, padding="max_length", max_length=12, return_tensors="pt").input_ids
    with torch.no_grad():
        states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        want = pipe.text_encoder.final_layer_norm(states[1])
    assert torch.allclose(pipe.encode_prompt([WORDS], clip_skip=2), want, atol=1e-6)
    shown = images(pipe, WORDS, clip_skip=2)
    nothing = pipe.encode_prompt([""], clip_skip=2)  # the negative prompt skips them too
    assert apart(shown, images(pipe, None, prompt_embeds=want, negative_prompt_embeds=nothing)) == 0
    assert apart(shown, images(pipe, WORDS)) > 1e-3
    with pytest.raises(ValueError, match="3 layers, so use 0 to 2"):
        images(pipe, WORDS, clip_skip=3)


# -- noise and schedule ------------------------------


def test_given_latents_are_the_first_noise(pipe):
    noise = torch.randn((1, CHANNELS, 8, 8), generator=torch.Generator().manual_seed(3))
    want = images(pipe, WORDS, standing())
    assert apart(images(pipe, WORDS, standing(), seed=9, latents=noise), want) == 0
    with pytest.raises(ValueError, match=r"shape \(1, 3, 8, 4\); these images need \(1, 3, 8, 8\)"):
        images(pipe, WORDS, latents=noise[..., :4])


def test_custom_timesteps_and_sigmas(pipe):
    seen = []

    def note(_, step, timestep, tensors):
        seen.append(int(timestep))

    euler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    images(pipe, WORDS, scheduler=euler, timesteps=[900, 500, 100], callback_on_step_end=note)
    assert seen == [900, 500, 100]
    euler.set_timesteps(3)
    want = images(pipe, WORDS, scheduler=euler, num_inference_steps=3)
    got = images(pipe, WORDS, scheduler=euler, sigmas=euler.sigmas.tolist())
    assert apart(got, want) < 1e-4
    with pytest.raises(ValueError, match="custom"):
        images(pipe, WORDS, sigmas=[3.0, 1.0])  # DDIM takes none


def test_the_model_brings_its_steps(tmp_path):
    pipe = make(num_inference_steps=3)
    count = []
    pipe(WORDS, callback_on_step_end=lambda *_: count.append(1))
    pipe.save_pretrained(tmp_path)
    assert len(count) == HumanSDPipeline.from_pretrained(tmp_path).default_steps == 3


# -- guidance ------------------------------


def branches_of(pipe, **options) -> list[int]:
    seen = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    images(pipe, WORDS, standing(), num_inference_steps=10, **options)
    hook.remove()
    return seen


def test_guidance_counts_in_its_window(pipe):
    full = {"guidance_scale": 4.0, "pose_guidance_scale": 2.0}
    assert branches_of(pipe, **full) == [3] * 10
    assert branches_of(pipe, **full, guidance_start=0.2, guidance_end=0.7) == [1, 1, 3, 3, 3, 3, 3, 1, 1, 1]
    assert branches_of(pipe, **full, pose_guidance_end=0.3) == [3] * 3 + [2] * 7
    assert branches_of(pipe, guidance_scale=0.0, pose_guidance_scale=1.0) == [1] * 10  # as in diffusers: no guidance
    with pytest.raises(ValueError, match=r"guidance_start is 0\.9 and guidance_end is 0\.2"):
        images(pipe, WORDS, guidance_start=0.9, guidance_end=0.2)


def test_a_model_may_guide_a_part_of_its_steps_of_its_own(tmp_path):
    make(guidance={"text": 4.0, "pose": 2.0, "end": 0.4}).save_pretrained(tmp_path)
    pipe = HumanSDPipeline.from_pretrained(tmp_path)
    assert pipe.guidance == Guidance(4.0, 2.0, 0.4)
    assert branches_of(pipe) == [3] * 4 + [1] * 6
    assert branches_of(pipe, guidance_end=1.0) == [3] * 10
    assert SamplingConfig().resolved(pipe).guidance_end == 0.4
    assert SamplingConfig(guidance_end=1.0).resolved(pipe).guidance_end == 1.0
    assert "end" not in make().config.guidance  # as files have always been
    with pytest.raises(ValueError, match=r"guidance is .*'end': 1\.5.*0 to 1"):
        make(guidance={"text": 4.0, "end": 1.5})


def test_outside_its_window_the_pose_is_not_shown(pipe):
    options = {"guidance_scale": 3.0, "pose_guidance_scale": 2.0}
    nothing = images(pipe, WORDS, standing(), control_guidance_start=1.0, **options)
    assert apart(nothing, images(pipe, WORDS, None, **options)) < 1e-6
    half = images(pipe, WORDS, standing(), control_guidance_end=0.5, **options)
    assert apart(half, nothing) > 1e-3
    assert apart(half, images(pipe, WORDS, standing(), **options)) > 1e-3


def test_rescaling_is_diffusers(pipe):
    from humansd.pipelines.guidance import Branch, Plan

    none, some = (torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    plan = Plan((Branch(False, True), Branch(True, True)), 5.0, 1.0, 0.7)
    want = rescale_noise_cfg(none + 5 * (some - none), some, 0.7)
    assert torch.allclose(plan.combine([none, some]), want, atol=1e-6)
    assert apart(images(pipe, WORDS, guidance_rescale=0.7), images(pipe, WORDS)) > 1e-3


def test_a_dropped_pose_is_what_the_model_knew(tmp_path):
    black = make(dropped_pose="black")
    nobody = People.empty((SIZE, SIZE))
    assert torch.equal(black.encode_pose([None]), black.encode_pose([nobody]))
    assert apart(images(black, WORDS, None), images(black, WORDS, nobody)) < 1e-6
    assert apart(images(black, WORDS, None), images(make(), WORDS, None)) > 1e-3
    guided = {"guidance_scale": 3.0, "pose_guidance_scale": 2.0}
    assert apart(images(black, WORDS, standing(), **guided), images(make(), WORDS, standing(), **guided)) > 1e-3
    black.save_pretrained(tmp_path)
    assert HumanSDPipeline.from_pretrained(tmp_path).config.dropped_pose == "black"
    with pytest.raises(ValueError, match="dropped_pose is 'grey'; choose zero or black"):
        make(dropped_pose="grey")


def test_diffusers_callback_ends_the_guidance(pipe):
    seen = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    cut = SDCFGCutoffCallback(cutoff_step_ratio=0.5)
    got = images(pipe, WORDS, standing(), guidance_scale=4.0, pose_guidance_scale=1.0, callback_on_step_end=cut)
    hook.remove()
    assert seen == [2, 2, 2, 1]  # it acts at the end of step number 2
    windowed = images(pipe, WORDS, standing(), guidance_scale=4.0, pose_guidance_scale=1.0, guidance_end=0.75)
    assert apart(got, windowed) < 1e-6
    with pytest.raises(ValueError, match="the callback returned prompt_embeds"):
        images(pipe, [WORDS, "a park"], callback_on_step_end=cut)


# -- weights added ------------------------------


def lora_file(folder, rank=2):
    """A LoRA of the attention of the tiny UNet and its text encoder, as diffusers writes it."""
    parts = tiny_components()
    torch.manual_seed(1)
    layers = {}
    for name, targets in (("unet", ["to_q", "to_v"]), ("text_encoder", ["q_proj", "v_proj"])):
        module = parts[name]
        module.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
        state = get_peft_model_state_dict(module)
        layers[f"{name}_lora_layers"] = {key: torch.randn_like(value) * 0.5 for key, value in state.items()}
    HumanSDPipeline.save_lora_weights(folder, **layers)
    return folder / "pytorch_lora_weights.safetensors"


def test_lora_changes_the_image_by_its_scale(tmp_path):
    pipe, file = make(), lora_file(tmp_path)
    plain = images(pipe, WORDS, standing())
    pipe.load_lora_weights(str(file), use_safetensors=True)
    whole = images(pipe, WORDS, standing())
    half = images(pipe, WORDS, standing(), cross_attention_kwargs={"scale": 0.5})
    assert apart(whole, plain) > 1e-2
    assert apart(half, plain) > 1e-3
    assert apart(half, whole) > 1e-3
    assert apart(images(pipe, WORDS, standing(), cross_attention_kwargs={"scale": 0.0}), plain) < 1e-5
    pipe.unload_lora_weights()
    assert apart(images(pipe, WORDS, standing()), plain) < 1e-6


def test_textual_inversion_teaches_a_word(tmp_path):
    pipe = make()
    file = tmp_path / "style.safetensors"
    torch.manual_seed(2)
    vectors = torch.randn(2, 16)
    save_file({"<style>": vectors}, file)
    before = images(pipe, "a man <style>")
    pipe.load_textual_inversion(str(file), use_safetensors=True)
    after = images(pipe, "a man <style>")
    assert apart(after, before) > 1e-3
    ids = pipe.tokenizer.convert_tokens_to_ids(["<style>", "<style>_1"])
    both = encode_text(pipe.tokenizer, pipe.text_encoder, ["a man <style> <style>_1"])
    assert torch.equal(pipe.encode_prompt(["a man <style>"]), both)  # both vectors stand where the word stands
    assert torch.equal(pipe.text_encoder.get_input_embeddings().weight[ids], vectors)
    pipe.save_pretrained(tmp_path / "model")
    again = HumanSDPipeline.from_pretrained(tmp_path / "model")
    again.set_progress_bar_config(disable=True)
    assert apart(images(again, "a man <style>"), after) < 1e-6


def adapter_state(unet: UNet2DConditionModel, image_width: int, tokens: int = 4) -> dict[str, dict[str, torch.Tensor]]:
    """An IP-Adapter of this UNet with random weights, laid out as published ones."""
    torch.manual_seed(3)
    width = unet.config.cross_attention_dim
    projection = {
        "proj.weight": torch.randn(tokens * width, image_width),
        "proj.bias": torch.zeros(tokens * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    layers, key = {}, 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            hidden = unet.get_submodule(name.removesuffix(".processor")).to_q.out_features
            layers[f"{key}.to_k_ip.weight"] = torch.randn(hidden, width)
            layers[f"{key}.to_v_ip.weight"] = torch.randn(hidden, width)
            key += 2
    return {"image_proj": projection, "ip_adapter": layers}


def test_ip_adapter_reads_an_image():
    torch.manual_seed(4)
    config = CLIPVisionConfig(
        image_size=16, patch_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=12,
    )  # fmt: skip
    pipe = make(
        image_encoder=CLIPVisionModelWithProjection(config).eval(),
        feature_extractor=CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
    )
    plain = images(pipe, WORDS, standing())
    with pytest.raises(ValueError, match="no IP-Adapter is loaded"):
        images(pipe, WORDS, ip_adapter_image=np.zeros((16, 16, 3), np.uint8))
    pipe.unet._load_ip_adapter_weights([adapter_state(pipe.unet, 12)])
    prompts = [np.full((16, 16, 3), value, np.uint8) for value in (0, 200)]
    dark, light = (images(pipe, WORDS, standing(), ip_adapter_image=one, pose_guidance_scale=2.0) for one in prompts)
    assert apart(dark, light) > 1e-4
    pipe.set_ip_adapter_scale(0.0)
    assert apart(images(pipe, WORDS, standing(), ip_adapter_image=prompts[1]), plain) < 1e-5
    pipe.set_ip_adapter_scale(1.0)
    batch = images(pipe, [WORDS, "a park"], standing(), ip_adapter_image=prompts[1], pose_guidance_scale=2.0)
    assert apart(batch[:1], light) < 2 / 255
    with pytest.raises(ValueError, match="2 IP-Adapter images for 1 adapters"):
        images(pipe, WORDS, ip_adapter_image=prompts)


# -- memory ------------------------------


def test_vae_slices_and_tiles():
    pipe = make()
    want = images(pipe, [WORDS] * 2, standing())
    pipe.vae.enable_slicing()
    assert apart(images(pipe, [WORDS] * 2, standing()), want) < 1e-5
    pipe.vae.enable_tiling()
    assert apart(images(pipe, [WORDS] * 2, standing()), want) < 1e-5  # an image of one tile


def test_model_offload_draws_the_same():
    want = images(make(), WORDS, standing())
    pipe = make()
    pipe.enable_model_cpu_offload(device="cpu")
    assert apart(images(pipe, WORDS, standing()), want) == 0
    assert apart(images(pipe, WORDS, standing()), want) == 0


def test_sequential_offload_draws_the_same():
    """The weights rest on the meta device and come for their own layer alone, as `enable_sequential_cpu_offload` has it
    (which on a CPU stumbles in accelerate over the device's number, for every pipeline)."""
    want = images(make(), WORDS, standing())
    pipe = make()
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        cpu_offload(part, torch.device("cpu"))
    assert {part.device.type for part in (pipe.text_encoder, pipe.unet, pipe.vae)} == {"meta"}
    assert pipe._execution_device == torch.device("cpu")
    assert apart(images(pipe, WORDS, standing()), want) == 0


# -- schedulers ------------------------------


@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler(), EDMEulerScheduler()])
def test_schedulers_of_other_models_are_refused_by_name(scheduler):
    with pytest.raises(ValueError, match=type(scheduler).__name__):
        make(scheduler=scheduler)
    pipe = make()
    pipe.scheduler = scheduler
    with pytest.raises(ValueError, match=type(scheduler).__name__):
        images(pipe, WORDS)


def test_flow_settings_of_a_known_scheduler_are_refused(pipe):
    flow = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    with pytest.raises(ValueError, match="use_flow_sigmas=True"):
        images(pipe, WORDS, scheduler=flow)


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "dpm-sde"])
def test_every_named_scheduler_draws(pipe, name):
    made = make_scheduler(name, pipe.scheduler)
    assert made.config.prediction_type == "v_prediction"
    assert np.isfinite(images(pipe, WORDS, standing(), scheduler=made)).all()


def test_a_missing_dependency_and_a_wrong_name_are_told(pipe):
    with pytest.raises(ValueError, match="choose one of ddim"):
        make_scheduler("dimm", pipe.scheduler)
    try:
        import torchsde  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match="pip install torchsde"):
            make_scheduler("dpm-sde", pipe.scheduler)


def test_threads_share_a_pipeline(pipe):
    """A call steps through its own scheduler."""
    want = {seed: images(pipe, WORDS, standing(), seed=seed, num_inference_steps=12) for seed in range(4)}
    got: dict[int, np.ndarray] = {}

    def draw(seed):
        got[seed] = images(pipe, WORDS, standing(), seed=seed, num_inference_steps=12)

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in want]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(apart(got[seed], want[seed]) == 0 for seed in want)


# -- folders ------------------------------


def test_diffusers_own_loader_finds_the_class(tmp_path):
    pipe = make()
    pipe.save_pretrained(tmp_path / "model")
    code = (
        "import sys; from diffusers import DiffusionPipeline\n"
        "p = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "print(type(p).__module__, type(p).__name__, p.config.num_inference_steps)"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["humansd.pipelines.humansd", "HumanSDPipeline", "25"], done.stderr
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(tmp_path / "model")


def test_older_folders_load(tmp_path):
    """Before there were a loader, steps and what a dropped pose is."""
    pipe = make()
    want = images(pipe, WORDS, standing())
    pipe.save_pretrained(tmp_path)
    file = tmp_path / "model_index.json"
    index = json.loads(file.read_text())
    new = ("dropped_pose", "num_inference_steps", "image_encoder", "feature_extractor")
    old = {key: value for key, value in index.items() if key not in new}
    file.write_text(json.dumps(old | {"_class_name": "HumanSDPipeline"}))
    (tmp_path / "humansd_pipeline.py").unlink()
    (tmp_path / "digests.json").unlink()
    again = HumanSDPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert apart(images(again, WORDS, standing()), want) < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet": ["os", "system"]}, "comes from the library 'os'"),
        ({"unet": ["my_code", "UNet"]}, "comes from the library 'my_code'"),
        ({"unet": ["diffusers"]}, r"unet is \['diffusers'\]"),
        ({"_class_name": "StableDiffusionInstructPix2PixPipeline"}, "an InstructPix2Pix"),
        ({"_class_name": "StableDiffusionInpaintPipeline"}, "for inpainting"),
        ({"_class_name": ""}, "no _class_name"),
    ],
)
def test_foreign_folders_are_refused_before_anything_is_imported(tmp_path, changes, message):
    make().save_pretrained(tmp_path)
    file = tmp_path / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    (tmp_path / "digests.json").unlink()
    with pytest.raises(ValueError, match=message):
        HumanSDPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize(("channels", "name"), [(2 * CHANNELS + 1, "inpainting"), (CHANNELS + 1, "depth")])
def test_other_unets_are_refused_by_name(channels, name):
    unet = widen_conv_in(tiny_unet(), channels - CHANNELS)
    with pytest.raises(ValueError, match=f"Stable Diffusion for {name}"):
        make(unet=unet)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    make().save_pretrained(tmp_path)
    for file in (tmp_path / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises((ValueError, OSError), match="token"):
        HumanSDPipeline.from_pretrained(tmp_path)


def test_one_file_of_the_original_code_is_a_pipeline(tmp_path):
    from humansd.checkpoints.original_format import write_single_file
    from humansd.pipelines.single_file import checkpoint_to_folder
    from tiny_ldm import TINY, TINY1, tiny_components

    file = tmp_path / "humansd.safetensors"
    write_single_file(tiny_components(TINY1, 8), TINY1, file)
    pipe = HumanSDPipeline.from_single_file(file, layouts=TINY, kind="humansd")
    checkpoint_to_folder(file, tmp_path / "folder", layouts=TINY, kind="humansd")
    folder = HumanSDPipeline.from_pretrained(tmp_path / "folder")
    for one in (pipe, folder):
        one.set_progress_bar_config(disable=True)
    assert (pipe.default_steps, pipe.guidance.text, pipe.config.dropped_pose) == (50, 9.0, "black")
    first, second = (images(one, WORDS, standing((64, 64)), num_inference_steps=2) for one in (pipe, folder))
    assert apart(first, second) < 1e-4
    half = HumanSDPipeline.from_single_file(file, layouts=TINY, kind="humansd", dtype=torch.bfloat16)
    assert {half.unet.dtype, half.vae.dtype, half.text_encoder.dtype} == {torch.bfloat16}
