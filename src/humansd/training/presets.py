"""Every preset, as one table."""

from __future__ import annotations

from humansd.training.settings import (
    AutoencoderSettings,
    DiffusionSettings,
    LoopSettings,
    PocketRecipe,
    TowersSettings,
)

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"

POCKET = PocketRecipe(
    pictures=12000,
    vae=AutoencoderSettings(steps=3850, batch_size=8, learning_rate=1e-3, cooldown_steps=300, ema_decay=0.995),
    towers=TowersSettings(steps=220, batch_size=128, learning_rate=1e-3, cooldown_steps=80, ema_decay=0.98),
    base=DiffusionSettings(steps=600, batch_size=16, learning_rate=6e-4),
    humansd=DiffusionSettings(steps=4000, batch_size=16, learning_rate=6e-4, pose="concat", seed=2),
)

TINY_LOOP = {"steps": 2, "batch_size": 2, "warmup_steps": 1, "log_every": 1}
TINY = PocketRecipe(  # seconds; every stage runs, nothing is learnt
    pictures=6,
    workers=1,
    vae=AutoencoderSettings(**TINY_LOOP),  # type: ignore[arg-type]
    towers=TowersSettings(**TINY_LOOP, vocabulary=600),  # type: ignore[arg-type]
    base=DiffusionSettings(**TINY_LOOP),  # type: ignore[arg-type]
    humansd=DiffusionSettings(**TINY_LOOP, pose="concat"),  # type: ignore[arg-type]
)

# HumanSD, Stable Diffusion 1.5: AdamW, 5e-6 a sample, no schedule (humansd's paper and published configuration).
HUMANSD_SD15 = DiffusionSettings(
    steps=95_000, batch_size=4, learning_rate=2e-5, parts=SD15, base=SD15, pose="concat", min_snr_gamma=0.0
)

PRESETS: dict[str, PocketRecipe | LoopSettings] = {
    "pocket": POCKET,
    "pocket-vae": POCKET.vae,
    "pocket-towers": POCKET.towers,
    "pocket-base": POCKET.base,
    "pocket-humansd": POCKET.humansd,
    "humansd-sd15": HUMANSD_SD15,
    "tiny": TINY,
}
