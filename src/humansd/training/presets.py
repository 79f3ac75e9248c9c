"""Every preset, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from humansd.training.settings import (
    SD15,
    SD21,
    AutoencoderSettings,
    ClipSettings,
    DiffusionSettings,
    DistillationSettings,
    EstimatorSettings,
    FewStepSettings,
    HeadSettings,
    LoopSettings,
    PocketRecipe,
    TinyDecoderSettings,
)
from humansd.training.tasks.dual_adapter_settings import DualAdapterSettings
from humansd.training.tasks.segmenter_settings import SegmenterSettings
from humansd.training.tasks.subject_settings import SubjectSettings

HIGHERHRNET = EstimatorSettings(
    steps=9000, batch_size=32, learning_rate=2e-3, cooldown_steps=4500, ema_decay=0.998, kind="higherhrnet", seed=3
)
CENTERNET = EstimatorSettings(
    steps=27_000,
    batch_size=16,
    learning_rate=1.2e-3,
    lr_warmup_steps=300,
    cooldown_steps=8000,
    ema_decay=0.998,
    kind="centernet",
    changes="mild",
    seed=4,
)
# Person masks, in minutes on a CPU: the small model of dual-adapter-masks-pocket.
SEGMENTER = SegmenterSettings(
    steps=1500,
    batch_size=8,
    learning_rate=2e-3,
    lr_warmup_steps=50,
    cooldown_steps=600,
    ema_decay=0.99,
    changes="mild",
    log_images_minutes=0.0,
    log_every=20,
    seed=13,
)
# The pocket estimator's maps of half the resolution alone, as when the weights that ship were made.
_POCKET_TEACHER = {"estimator": "pocket", "heatmap_resolutions": "half"}
HEAD = HeadSettings(
    steps=800,
    batch_size=64,
    learning_rate=1e-3,
    cooldown_steps=250,
    seed=5,
    **_POCKET_TEACHER,  # type: ignore[arg-type]
)
FINETUNE = DiffusionSettings(
    steps=1450,
    batch_size=256,
    gradient_accumulation_steps=4,
    learning_rate=8e-4,
    lr_warmup_steps=200,
    cooldown_steps=400,
    method="humansd",
    loss="latent-heatmap",
    heatmap_strength=8.0,
    min_snr_gamma=0.0,
    guidance_scale=4.0,
    pose_guidance_scale=3.0,
    compile="auto",
    seed=6,
    **_POCKET_TEACHER,  # type: ignore[arg-type]  # where another loss is asked for
)
ONE_BRANCH = DistillationSettings(
    steps=2000,
    batch_size=64,
    learning_rate=1e-3,
    cooldown_steps=700,
    min_snr_gamma=0.0,
    guidance_scale=4.0,
    pose_guidance_scale=3.0,
    compile="auto",
    inference_steps=8,
    seed=7,
)
# Of the one-branch model, where `teacher_lora` names it (the recipe does), else of the three branches.
FOUR_STEPS = FewStepSettings(
    steps=1500,
    batch_size=64,
    learning_rate=1e-3,
    cooldown_steps=500,
    min_snr_gamma=0.0,
    guidance_scale=4.0,
    pose_guidance_scale=3.0,
    compile="auto",
    inference_steps=4,
    seed=8,
)
TINY_DECODER = TinyDecoderSettings(
    steps=6000,
    batch_size=32,
    crop=128,
    learning_rate=1.5e-3,
    cooldown_steps=2000,
    ema_decay=0.995,
    skeleton_share=0.0,
    estimator="pocket",
    feature_weight=0.25,
    seed=9,
)

POCKET = PocketRecipe(
    vae=AutoencoderSettings(
        steps=4000,
        batch_size=32,
        crop=128,
        learning_rate=1.2e-3,
        cooldown_steps=1200,
        ema_decay=0.995,
        estimator="pocket",
        feature_weight=0.25,
        equivariance=0.25,
    ),
    clip=ClipSettings(
        steps=600, batch_size=256, learning_rate=1e-3, cooldown_steps=200, ema_decay=0.98, crop_padding=16
    ),
    base=DiffusionSettings(
        steps=1200,
        batch_size=256,
        gradient_accumulation_steps=4,
        learning_rate=8e-4,
        cooldown_steps=150,
        min_snr_samples=150_000,
        train_text=True,
        compile="auto",
    ),
    humansd=DiffusionSettings(
        steps=4000,
        batch_size=256,
        gradient_accumulation_steps=4,
        learning_rate=8e-4,
        lr_warmup_steps=200,
        cooldown_steps=1200,
        method="humansd",
        loss="skeleton-mask",
        mask="own",
        heatmap_strength=8.0,  # of the other losses: people then count about three times the rest, as with the mask
        min_snr_gamma=0.0,
        guidance_scale=4.0,
        pose_guidance_scale=3.0,
        compile="auto",
        seed=2,
        **_POCKET_TEACHER,  # type: ignore[arg-type]  # of the other losses
    ),
    higherhrnet=HIGHERHRNET,
    centernet=CENTERNET,
    head=HEAD,
    finetune=FINETUNE,
    one_branch=ONE_BRANCH,
    four_steps=FOUR_STEPS,
    tiny_decoder=TINY_DECODER,
)
# Measures CLIPSIM: other first weights and another order, and its text half is no pipeline's.
HELD_OUT_CLIP = replace(POCKET.clip, seed=12)

TINY_LOOP = {"steps": 2, "batch_size": 2, "lr_warmup_steps": 1, "log_every": 1}
TINY = PocketRecipe(  # seconds; every stage runs, nothing is learnt
    images=6,
    size=128,
    workers=1,
    vae_images=6,
    vae=AutoencoderSettings(**TINY_LOOP),  # type: ignore[arg-type]
    clip=ClipSettings(**TINY_LOOP, vocabulary=600),  # type: ignore[arg-type]
    base=DiffusionSettings(**TINY_LOOP, log_images_minutes=0.0),  # type: ignore[arg-type]
    humansd=DiffusionSettings(**TINY_LOOP, log_images_minutes=0.0, method="humansd"),  # type: ignore[arg-type]
    higherhrnet=EstimatorSettings(**TINY_LOOP),  # type: ignore[arg-type]
    centernet=EstimatorSettings(**TINY_LOOP, kind="centernet"),  # type: ignore[arg-type]
    finetune_images=6,
    head=HeadSettings(**TINY_LOOP, estimator="pocket"),  # type: ignore[arg-type]
    finetune=DiffusionSettings(**TINY_LOOP, log_images_minutes=0.0, method="humansd", loss="latent-heatmap"),  # type: ignore[arg-type]
    one_branch=DistillationSettings(**TINY_LOOP),  # type: ignore[arg-type]
    four_steps=FewStepSettings(**TINY_LOOP, calls=2, teacher_steps=2, inference_steps=2),  # type: ignore[arg-type]
    tiny_decoder=TinyDecoderSettings(**TINY_LOOP, width=8),  # type: ignore[arg-type]
)

# HumanSD as published: its base, its loss with its teacher, and its numbers. `learning_rate` is 5e-6 for each of the 4
# samples of a batch; the published code multiplies by batch and GPUs, here it is used as it is, so a batch of 32 asks
# for 1.6e-4. What differs from the published configuration, all of it (docs/training.md has the table):
# - the loss weighs by 1 + 8 M, M the estimator's heat (Eq. 6); the published code's 1 + 0.1 Z is loss=reference;
# - images and skeletons are encoded once, as the means of the VAE's posterior, not sampled anew in every step;
# - no random mirror, rotation, crop or colour;
# - timesteps are spread evenly (a Weyl sequence), not drawn independently, and everything random comes from the seed;
# - bf16 arithmetic where the device has it, and a loss that explodes is passed over (explode_factor).
HUMANSD_SD21 = DiffusionSettings(
    steps=95_000,
    batch_size=4,
    learning_rate=2e-5,
    lr_warmup_steps=0,
    beta2=0.999,
    max_grad_norm=0.0,
    ema_decay=0.0,
    base_model=SD21,
    method="humansd",
    loss="heatmap",
    estimator="higherhrnet-w48",
    estimator_px=512,
    heatmap_strength=8.0,
    heatmap_resolutions="both",
    min_snr_gamma=0.0,
    text_dropout=0.0,
    pose_dropout=0.0,
    cache_text=True,
    guidance_scale=9.0,
    pose_guidance_scale=1.0,
    inference_steps=50,
)
HUMANSD_SD15 = replace(HUMANSD_SD21, base_model=SD15)
# The same training, step for step, on a card of 24 GB: the batch in four parts, activations computed twice.
HUMANSD_SD15_24GB = replace(HUMANSD_SD15, gradient_accumulation_steps=4, gradient_checkpointing=True, device="cuda")

# The rivals of table 1 with the settings of their papers where those say them; the same data and the same loop.
_SD15_RIVAL = replace(HUMANSD_SD15, loss="ldm", estimator="", estimator_px=0, learning_rate=1e-5, guidance_scale=7.5)
RIVALS_SD15 = {
    "gligen": replace(_SD15_RIVAL, method="gligen", learning_rate=5e-5, text_dropout=0.1),
    "t2i-adapter": replace(_SD15_RIVAL, method="t2i-adapter", batch_size=8),
    "controlnet": replace(_SD15_RIVAL, method="controlnet", text_dropout=0.5),  # half of the prompts are empty
    "joint-maps": replace(_SD15_RIVAL, method="joint-maps", learning_rate=2e-5),
}
_POCKET_RIVAL = replace(POCKET.humansd, loss="ldm", mask="skeleton")
RIVALS_POCKET = {name: replace(_POCKET_RIVAL, method=name) for name in RIVALS_SD15}

# The secondary adapter of CN117392675A; `base_model` is the export of t2i-adapter-pocket, at full size `primary` a
# published T2I-Adapter. The description trains on 3,000 images and says 5 hours on four cards of 24 GB, and nothing of
# the rest.
DUAL_POCKET = DualAdapterSettings(
    steps=500,
    batch_size=8,
    learning_rate=2e-4,
    lr_warmup_steps=20,
    cooldown_steps=125,
    ema_decay=0.99,
    guidance_scale=4.0,
    log_images_minutes=0.0,
    explode_factor=0.0,  # the loss is that of a few steps, and those of noise are many times those of the image
    log_every=10,
    seed=8,
)
DUAL_PAIRS_POCKET = replace(DUAL_POCKET, objective="pairs", true_pairs=True, seed=9)
# The same through person masks; `estimator` is to be segformer=EXPORT of pocket-segmenter, or another SegFormer.
DUAL_MASKS_POCKET = replace(DUAL_POCKET, method="t2i-adapter-masks", estimator="segformer", mask="own", seed=11)
DUAL_SD15 = replace(
    DUAL_POCKET,
    base_model=SD15,
    primary="TencentARC/t2iadapter_openpose_sd14v1",
    estimator="higherhrnet-w48",
    estimator_px=512,
    decoder="madebyollin/taesd",
    steps=3750,
    learning_rate=1e-5,
    cooldown_steps=900,
    gradient_accumulation_steps=4,
    gradient_checkpointing=True,
    guidance_scale=7.5,
    inference_steps=50,
)

# One person (DreamBooth): `base_model` may be the export of an adapter, whose UNet it is.
SUBJECT_POCKET = SubjectSettings(
    steps=400, batch_size=4, learning_rate=5e-4, lr_warmup_steps=20, cooldown_steps=100, ema_decay=0.0,
    text_dropout=0.0, pose_dropout=0.0, min_snr_gamma=0.0, log_images_minutes=0.0, seed=10,
)  # fmt: skip
SUBJECT_SD15 = replace(
    SUBJECT_POCKET, base_model=SD15, steps=800, batch_size=1, learning_rate=1e-4, gradient_checkpointing=True
)


def _named(rivals: Mapping[str, DiffusionSettings], size: str, **changes: str) -> dict[str, DiffusionSettings]:
    return {f"{name}-{size}": replace(one, **changes) for name, one in rivals.items()}  # type: ignore[arg-type]


PRESETS: dict[str, PocketRecipe | LoopSettings] = {
    "pocket": POCKET,
    "pocket-vae": POCKET.vae,
    "pocket-clip": POCKET.clip,
    "pocket-base": POCKET.base,
    "pocket-humansd": POCKET.humansd,
    "pocket-latent-heatmap": HEAD,
    "pocket-finetune": FINETUNE,
    "pocket-one-branch": ONE_BRANCH,
    "pocket-four-steps": FOUR_STEPS,
    "pocket-tiny-decoder": TINY_DECODER,
    "pocket-held-out-clip": HELD_OUT_CLIP,
    "pocket-higherhrnet": HIGHERHRNET,
    "pocket-centernet": CENTERNET,
    "pocket-segmenter": SEGMENTER,
    "humansd-sd21": HUMANSD_SD21,
    "humansd-sd15": HUMANSD_SD15,
    "humansd-sd15-24gb": HUMANSD_SD15_24GB,
    "humansd-pocket": POCKET.humansd,
    **_named(RIVALS_POCKET, "pocket"),
    **_named(RIVALS_SD15, "sd15"),
    **_named(RIVALS_SD15, "sd21", base_model=SD21),
    "dual-adapter-pocket": DUAL_POCKET,
    "dual-adapter-pairs-pocket": DUAL_PAIRS_POCKET,
    "dual-adapter-masks-pocket": DUAL_MASKS_POCKET,
    "dual-adapter-sd15": DUAL_SD15,
    "subject-pocket": SUBJECT_POCKET,
    "subject-sd15": SUBJECT_SD15,
    "tiny": TINY,
}
