"""A mistake in the arguments is answered before torch, which takes seconds, is imported."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile

import pytest

from humansd.data.shards import add_members
from humansd.pose.formats import write_poses
from tiny_pipeline import standing

# Runs each command in one process, and says what it answered and whether torch was imported by then.
PROBE = """
import contextlib, io, json, sys
from humansd.cli import main
answers = []
for command in json.loads(sys.argv[1]):
    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        try:
            status = main(command)
        except SystemExit as error:
            status = error.code
    answers.append([status, text.getvalue().splitlines()[-1], "torch" in sys.modules])
print(json.dumps(answers))
"""
WRONG = [
    (["--pose", "nope.json"], "nope.json: no such file or folder"),
    (["--pose", "broken.json"], "broken.json"),
    (["--steps", "0"], "num_inference_steps is 0"),
    (["--guidance-scale", "inf"], "guidance_scale is inf"),
    (["--scheduler", "dimm"], "scheduler is 'dimm'; choose one of ddim"),
    (["--estimator", "movenett"], "estimator 'movenett' is not known; choose one of movenet"),
    (["--model", "./nowhere"], "model './nowhere': no such folder"),
    (["--lora", "style.safetensors"], "LoRA style.safetensors: no such file"),
    (["--lora", "style.ckpt=0.5"], "LoRA style.ckpt: a pickled file"),
    (["--embedding", "word.safetensors"], "textual inversion word.safetensors: no such file"),
    (["--image", "nope.png"], "--image nope.png: no such file"),
    (["--image", "pose.json", "--strength", "2"], "strength is 2.0; it must be from 0.001 to 1"),
    (["--mask", "pose"], "--mask and --strength belong to an image"),
    (["--n", "0"], "n is 0"),
    (["--seed", "-1"], "seed is -1"),
    (["--units", "inches"], "inches"),
    (["--joints", "mine"], "mine"),
    (["--dtype", "fp8"], "invalid choice: 'fp8'"),
    (["--guidance-steps", "0.9-0.1"], "0.9-0.1"),
    (["--count", "4"], "--count is no option of `humansd generate`; write --n 4"),
    (["--num", "4"], "--num is no option of `humansd generate`; write --n 4"),  # not 4 inference steps
    (["--num_images_per_prompt=4"], "write --n 4"),
    (["-n", "4"], "-n is no option of `humansd generate`; write --n 4"),
    (["-n4"], "-n is no option of `humansd generate`; write --n 4"),
    (["--batch-count", "2"], "write --n 2"),
    (["--cfg", "7"], "write --guidance-scale 7"),
    (["--cfg-scale=7"], "write --guidance-scale 7"),
    (["--sampling-steps", "0"], "write --num-inference-steps 0"),
    (["--neg", "blurry hands"], "use --negative-prompt"),
    (
        ["--width", "512", "--height", "768"],
        "--width, --height are no options of `humansd generate`; write --size 512x768",
    ),
    (["--height", "512"], "write --size 512x512"),
    (["--sampler", "euler"], "write --scheduler euler"),
    (["--output", "mine"], "write --out mine"),
    (["-o", "mine"], "write --out mine"),
    (["--ckpt", "mine"], "write --model mine"),
    (["--denoising-strength", "0.4"], "write --strength 0.4"),
    (["--fp16"], "write --dtype fp16"),
    (["--prompt", "a man"], 'write the prompt without an option: humansd generate "a woman running" ...'),
    (["--pose-knd", "skeleton"], "did you mean --pose-kind?"),
    (["--frobnicate"], "--frobnicate is no option of `humansd generate`; `humansd generate --help` lists them"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    folder = tmp_path_factory.mktemp("quick")
    write_poses(folder / "pose.json", {"pose": standing()}, "coco")
    (folder / "broken.json").write_text("{")
    commands = [["generate", "a man", "--pose", "pose.json", *options] for options, _ in WRONG]
    commands += [["generate", " ", "--pose", "pose.json"], ["evaluate", "--data", "nope", "--out", "run"]]
    (folder / "odd").mkdir()
    with tarfile.open(folder / "odd" / "a.tar", "w") as tar:
        add_members(tar, "s1", {"json": b"{}"})
    commands += [["evaluate", "--data", "odd", "--out", "run"]]
    commands += [["evaluate", "--data", ".", "--out", "run", "--estimator", "x"], ["demo", "--poses", "nope"]]
    commands += [["compare", "nowhere"], ["train", "pocket-humnsd"], ["train", "humansd-sd15", "--set", "data=nope"]]
    commands += [["train", "pocket-humansd", "--set", "loss=huber"], ["train", "pocket-vae", "--set", "stepps=1"]]
    commands += [["train", "pocket-humansd", "--set", "batch_size=2"]]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(commands)], cwd=folder, capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {" ".join(command): one for command, one in zip(commands, found, strict=True)}


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_generate_answers_at_once(answers: dict[str, list], options: list[str], message: str) -> None:
    status, said, torch_is_here = answers[" ".join(["generate", "a man", "--pose", "pose.json", *options])]
    assert (status, torch_is_here) == (2, False)
    assert message in said


def test_other_commands_answer_at_once(answers: dict[str, list]) -> None:
    for command, message in (
        ("generate   --pose pose.json", "the prompt is empty"),
        ("evaluate --data nope --out run", "--data nope: no such file or folder"),
        ("evaluate --data . --out run --estimator x", "estimator 'x' is not known"),
        ("demo --poses nope", "--poses nope: no such file or folder"),
        ("compare nowhere", "nowhere: no settings.json; name a folder that `humansd evaluate --out` wrote"),
        ("train pocket-humnsd", "pocket-humnsd: no such preset"),
        ("train humansd-sd15 --set data=nope", "data = 'nope': no such folder; name a folder of shards"),
        ("train pocket-humansd --set loss=huber", "loss = 'huber': known are ldm"),
        ("train pocket-vae --set stepps=1", "--set stepps: no such setting"),
        ("train pocket-humansd --set batch_size=2", "gradient_accumulation_steps = 4 parts; use a multiple of 4"),
        ("evaluate --data odd --out run", "not one of 1 samples can be used, the first: a.tar: sample 's1'"),
    ):
        status, said, torch_is_here = answers[command]
        assert (status, torch_is_here) == (2, False)
        assert message in said
