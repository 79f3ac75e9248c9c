"""A run for tests in processes of their own: fits a line."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from humansd.training.loop import train
from humansd.training.randomness import sample_noise, sample_rng
from humansd.training.settings import LoopSettings


class Line:
    """y = 3x - 1 from samples that depend on nothing but their index."""

    def __init__(self, settings: LoopSettings, pause: float) -> None:
        self.settings, self.pause = settings, pause
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))

    def fingerprint(self):
        return {}

    def prepare(self, device):
        self.module.to(device)

    def load(self, samples):
        return torch.stack([sample_noise(sample_rng(self.settings.seed, index), (1,)) for index in samples])

    def loss(self, x):
        time.sleep(self.pause)
        return (self.module(x) - (3 * x - 1)).square().mean(), {}

    def export(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.module.state_dict(), folder / "line.safetensors")

    def log_images(self, folder, step):
        pass


def run(folder: Path, steps: int, pause: float) -> None:
    settings = LoopSettings(
        steps=steps,
        batch_size=4,
        learning_rate=0.02,
        lr_warmup_steps=2,
        device="cpu",
        mixed_precision="no",
        save_minutes=0.1 / 60,
    )
    train(Line(settings, pause), folder)
