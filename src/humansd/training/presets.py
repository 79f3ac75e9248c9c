"""Every preset, as one table."""

from __future__ import annotations

from humansd.training.settings import (
    AutoencoderSettings,
    DiffusionSettings,
    EstimatorSettings,
    HeadSettings,
    LoopSettings,
    PocketRecipe,
    TowersSettings,
)

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"

HIGHERHRNET = EstimatorSettings(
    steps=9000, batch_size=32, learning_rate=2e-3, cooldown_steps=4500, ema_decay=0.998, kind="higherhrnet", seed=3
)
JUDGE = EstimatorSettings(
    steps=27_000,
    batch_size=16,
    learning_rate=1.2e-3,
    warmup_steps=300,
    cooldown_steps=8000,
    ema_decay=0.998,
    kind="judge",
    changes="mild",
    seed=4,
)
HEAD = HeadSettings(steps=800, batch_size=64, learning_rate=1e-3, cooldown_steps=250, seed=5)
GUIDED = DiffusionSettings(
    steps=1450,
    batch_size=256,
    accumulation=4,
    learning_rate=8e-4,
    warmup_steps=200,
    cooldown_steps=400,
    pose="concat",
    loss="latent-heatmap",
    heatmap_strength=8.0,
    min_snr_gamma=0.0,
    guidance=4.0,
    pose_guidance=3.0,
    compile="auto",
    seed=6,
)

POCKET = PocketRecipe(
    pictures=20000,
    vae=AutoencoderSettings(steps=3000, batch_size=16, learning_rate=1.2e-3, cooldown_steps=800, ema_decay=0.995),
    towers=TowersSettings(steps=500, batch_size=128, learning_rate=1e-3, cooldown_steps=150, ema_decay=0.98),
    base=DiffusionSettings(
        steps=1100, batch_size=32, learning_rate=8e-4, cooldown_steps=150, train_text=True, compile="auto"
    ),
    humansd=DiffusionSettings(
        steps=6800,
        batch_size=32,
        learning_rate=8e-4,
        cooldown_steps=1500,
        pose="concat",
        loss="skeleton-mask",
        heatmap_strength=8.0,  # of the other losses: people then count about three times the rest, as with the mask
        min_snr_samples=58_112,
        guidance=4.0,
        pose_guidance=3.0,
        compile="auto",
        seed=2,
    ),
    higherhrnet=HIGHERHRNET,
    judge=JUDGE,
    head=HEAD,
    guided=GUIDED,
)

TINY_LOOP = {"steps": 2, "batch_size": 2, "warmup_steps": 1, "log_every": 1}
TINY = PocketRecipe(  # seconds; every stage runs, nothing is learnt
    pictures=6,
    workers=1,
    vae=AutoencoderSettings(**TINY_LOOP),  # type: ignore[arg-type]
    towers=TowersSettings(**TINY_LOOP, vocabulary=600),  # type: ignore[arg-type]
    base=DiffusionSettings(**TINY_LOOP),  # type: ignore[arg-type]
    humansd=DiffusionSettings(**TINY_LOOP, pose="concat"),  # type: ignore[arg-type]
    higherhrnet=EstimatorSettings(**TINY_LOOP),  # type: ignore[arg-type]
    judge=EstimatorSettings(**TINY_LOOP, kind="judge"),  # type: ignore[arg-type]
    guided_pictures=6,
    head=HeadSettings(**TINY_LOOP),  # type: ignore[arg-type]
    guided=DiffusionSettings(**TINY_LOOP, pose="concat", loss="latent-heatmap"),  # type: ignore[arg-type]
)

# HumanSD, Stable Diffusion 1.5: AdamW, 5e-6 a sample, no schedule (humansd's paper and published configuration).
HUMANSD_SD15 = DiffusionSettings(
    steps=95_000,
    batch_size=4,
    learning_rate=2e-5,
    parts=SD15,
    base=SD15,
    pose="concat",
    min_snr_gamma=0.0,
    cache_text=True,
)

PRESETS: dict[str, PocketRecipe | LoopSettings] = {
    "pocket": POCKET,
    "pocket-vae": POCKET.vae,
    "pocket-towers": POCKET.towers,
    "pocket-base": POCKET.base,
    "pocket-humansd": POCKET.humansd,
    "pocket-latent-heatmap": HEAD,
    "pocket-guided": GUIDED,
    "pocket-higherhrnet": HIGHERHRNET,
    "pocket-judge": JUDGE,
    "humansd-sd15": HUMANSD_SD15,
    "tiny": TINY,
}
