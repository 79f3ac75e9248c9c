"""Three branches learnt as one: the guided answer by its equation, the start at the teacher, the file that loads."""

import dataclasses

import pytest
import torch

from humansd.pipelines.humansd import HumanSDPipeline
from humansd.training.loop import train
from humansd.training.settings import DistillationSettings
from humansd.training.tasks.distillation import DistillationTask

SETTINGS = DistillationSettings(
    steps=12,
    batch_size=4,
    learning_rate=5e-3,
    lr_warmup_steps=1,
    ema_decay=0.0,
    guidance_scale=4.0,
    pose_guidance_scale=3.0,
    min_snr_gamma=0.0,
    mixed_precision="no",
    log_every=1,
    rank=4,
)


@pytest.fixture
def task(tiny_run):
    """Of a teacher that reads the pose, as a fresh one does not."""
    made = DistillationTask(
        dataclasses.replace(SETTINGS, data=str(tiny_run / "pack"), base_model=str(tiny_run / "humansd" / "export"))
    )
    for unet in (made.teacher, made.student):
        weight = next(
            value for name, value in unet.named_parameters() if name.startswith("conv_in") and value.ndim == 4
        )
        torch.manual_seed(0)
        torch.nn.init.normal_(weight.data[:, weight.shape[1] // 2 :], std=0.2)
    return made


def test_the_student_starts_at_one_branch_and_learns_all_three(task, tmp_path):
    task.prepare(torch.device("cpu"))
    _, numbers = task.loss(task.load(range(4)))
    assert numbers["against_unguided"] == pytest.approx(1, abs=1e-4)
    before = [value.clone() for value in task.teacher.parameters()]
    train(task, tmp_path)
    _, numbers = task.loss(task.load(range(4)))
    assert numbers["against_unguided"] < 0.9
    assert all(torch.equal(*pair) for pair in zip(before, task.teacher.parameters(), strict=True))


def test_what_is_learnt_is_the_guided_answer_of_the_pipeline_s_equation(task):
    task.prepare(torch.device("cpu"))
    batch = task.load(range(3))
    batch["text"] = task.inner.denoising.text(batch)
    wanted, unguided = task.guided(batch)
    noisy = task.inner.scheduler.add_noise(batch["latents"], batch["noise"], batch["timesteps"])
    empty, nobody = task.empty.expand_as(batch["text"]), torch.zeros_like(batch["pose"])

    def answer(text, pose):
        with torch.no_grad():
            return task.teacher(torch.cat([noisy, pose], dim=1), batch["timesteps"], text).sample

    alone, posed, told = (
        answer(empty, nobody),
        answer(empty, batch["pose"]),
        answer(batch["text"], batch["pose"]),
    )
    assert torch.allclose(unguided, told, atol=1e-5)
    assert torch.allclose(wanted, alone + 3 * (posed - alone) + 4 * (told - posed), atol=1e-4)
    assert (wanted - told).abs().max() > 0.01


def test_the_export_loads_as_a_lora_and_answers_as_the_student(task, tmp_path, tiny_run):
    train(task, tmp_path)
    pipeline = HumanSDPipeline.from_pretrained(tiny_run / "humansd" / "export")
    pipeline.unet.load_state_dict(task.teacher.state_dict())
    pipeline.load_lora_weights(tmp_path / "export")
    x, text, t = torch.randn(1, 16, 16, 16), torch.randn(1, 77, 192), torch.tensor([500])
    with torch.no_grad():
        assert torch.allclose(pipeline.unet(x, t, text).sample, task.student(x, t, text).sample, atol=1e-5)
        assert (task.student(x, t, text).sample - task.teacher(x, t, text).sample).abs().max() > 1e-3
