"""Training the UNet: plain Stable Diffusion, or HumanSD with the skeleton latent concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel

from humansd.data.augmentations import augmentation
from humansd.data.image_cache import ImageCache
from humansd.data.latents import LatentCache, TextCache, build_all_latents, build_texts
from humansd.losses.denoising import min_snr_weight, signal_to_noise
from humansd.losses.weights import WEIGHT_MAPS, skeleton_mask
from humansd.methods.table import find_method
from humansd.models.codec import text_length, token_ids
from humansd.models.loading import load_part
from humansd.models.pocket import pocket_unet
from humansd.models.tokenizers import load_tokenizer
from humansd.pipelines.guidance import Guidance
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.plain import plain_pipeline
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE
from humansd.training.bases import check_base, check_base_kind, start_unet
from humansd.training.counting import Shapes
from humansd.training.denoising import DenoisingLoss
from humansd.training.heatmap_weighting import (
    PREDICTION_LOSSES,
    LossWeighter,
    check_head,
    loss_weighter_folder,
    make_loss_weighter,
)
from humansd.training.identity import digests
from humansd.training.randomness import (
    SampleDraw,
    even_timestep,
    nearest_noise,
    noise_seed,
    sample_noise,
    sample_rng,
)
from humansd.training.tasks.alignment import Alignment
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.diffusion_networks import frozen_but, load_scheduler, unet_class
from humansd.training.tasks.diffusion_settings import LOSS_WORDS, DiffusionSettings
from humansd.training.tasks.diffusion_shapes import diffusion_shapes
from humansd.training.tasks.images import find_images, image_row
from humansd.training.tasks.previews import save_previews
from humansd.training.teachers import check_weights, describe_teacher

COVER_EVERY, COVER_SAMPLES = 10, 32  # batches, and samples of one, whose error inside people is logged
MAPS_KEPT = 100_000  # weight maps that are remembered instead of drawn again
REFERENCE = "as in the published code"
GUIDANCE = ("guidance_scale", "pose_guidance_scale", "guidance_end")  # of the finished model


class DiffusionTask(BaseTask):
    """Denoising with frozen VAE and text encoder; what the method says learns (HumanSD sec. 3.2: all of the UNet)."""

    def __init__(self, settings: DiffusionSettings) -> None:
        self.settings = settings
        parts = settings.components or settings.base_model
        if settings.base_model:
            check_base_kind(settings.base_model)
        self.text_encoder = load_part(CLIPTextModel, parts, "text_encoder").requires_grad_(False).eval()
        self.tokenizer = load_tokenizer(parts, self.text_encoder)
        self.vae = load_part(AutoencoderKL, parts, "vae").requires_grad_(False).eval()
        self.scheduler = load_scheduler(parts, settings.zero_terminal_snr)
        self.alphas = self.scheduler.alphas_cumprod.cpu()  # the scheduler takes its own to the GPU
        self.image_cache = find_images(settings, self.vae)
        weighs = settings.loss in PREDICTION_LOSSES
        weighter = make_loss_weighter(settings, self.vae, self.image_cache.size) if weighs else None
        torch.manual_seed(settings.seed)
        self.method = find_method(settings.method)
        unet = (
            load_part(unet_class(self.method, settings.base_model), settings.base_model, "unet")
            if settings.base_model
            else pocket_unet()
        )
        unet = start_unet(unet, settings)
        check_base(unet, self.vae, self.text_encoder, settings)
        self.networks = self.method.build(unet, self.vae)
        if self.method.network is not None and (Path(settings.base_model) / "pose_network").is_dir():
            self.networks.pose_network = load_part(self.method.network, settings.base_model, "pose_network")
        self.unet = self.networks.unet
        self.module = frozen_but(self.networks, self.method.learns(self.networks))
        if settings.train_text:
            self.text_encoder.requires_grad_(True)
            self.module = nn.ModuleDict({"unet": self.module, "text_encoder": self.text_encoder})
        self.alignment: Alignment | None = None
        if settings.align_weight and isinstance(self.image_cache, ImageCache):  # without buckets, the settings say
            self.alignment = Alignment(self.unet, self.image_cache)
            self.module = nn.ModuleDict({"learns": self.module, "alignment": self.alignment.head})
        self.denoising = DenoisingLoss(settings, self.networks, self.scheduler, weighter, self.text_encoder)
        self.caches: list[LatentCache] = []  # one for each variant
        self.texts: TextCache | None = None
        self.maps: dict[tuple[int, int], np.ndarray] = {}  # of a variant of a row

    @staticmethod
    def describe(settings: DiffusionSettings) -> dict[str, Any]:
        """See `BaseTask.describe`."""
        strengths = {name: getattr(settings, name) for name in ("mask_strength", "heatmap_strength")}
        read = {name: value for name, value in strengths.items() if not settings.unread([name])}
        words = {"name": settings.loss, "is": LOSS_WORDS[settings.loss]}
        return {"loss": {**words, **read, **describe_teacher(settings)}}

    @staticmethod
    def check(settings: DiffusionSettings) -> None:
        """See `BaseTask.check`."""
        check_weights(settings)
        if settings.loss == "latent-heatmap":
            check_head(settings.head)

    @staticmethod
    def shapes(settings: DiffusionSettings) -> Shapes:
        """See `BaseTask.shapes`."""
        return diffusion_shapes(settings)

    @property
    def weighter(self) -> LossWeighter | None:
        """What weighs the loss by the prediction, if anything does."""
        return self.denoising.weighter

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.denoising.device

    def fingerprint(self) -> dict[str, str]:
        settings = self.settings
        known = {
            **digests("base_model", settings.base_model, ["unet"]),
            **digests(
                "components",
                settings.components or settings.base_model,
                ["vae", "text_encoder", "tokenizer", "scheduler"],
            ),
            **digests("guide", loss_weighter_folder(settings)),
            "data_digest": self.image_cache.digest(),
        }
        return known | ({"reference_loss": REFERENCE} if settings.loss == "reference" else {})

    def prepare(self, device: torch.device) -> None:
        self.denoising.prepare(device)
        if self.alignment is not None:
            self.alignment.head.to(device)
        self.vae.to(device, memory_format=torch.channels_last)
        self.text_encoder.to(device)
        self.caches = [
            build_all_latents(self.image_cache, self.vae, HUMANSD_STYLE, number)
            for number in range(self.settings.cached_augmentations)
        ]
        if self.settings.cache_text:
            captions = ["", *(caption for wordings in self.image_cache.captions for caption in wordings)]
            self.texts = build_texts(captions, self.tokenizer, self.text_encoder, self.image_cache.folder)

    def load(self, samples: range) -> dict[str, Any]:
        """Everything `loss` needs of these samples: `batch`, by name, and the weights of timesteps and places."""
        batch = self.batch(samples)
        weights = self.timestep_weights(samples, batch["timesteps"])
        batch |= self._text(batch.pop("captions"))
        maps, cover = self.weight_maps(samples), self.cover(samples)
        seeds = [noise_seed(self.settings.seed, index) for index in samples]
        known = {**batch, "weights": weights, "maps": maps, "cover": cover, "seeds": seeds}
        if self.alignment is None:
            return known
        rows = [self._row(index, sample_rng(self.settings.seed, index))[0] for index in samples]
        return {**known, "parts": self.alignment.load(rows)}

    def _text(self, captions: list[str]) -> dict[str, Tensor]:
        """What the loss takes of these captions."""
        if self.texts is not None:
            return {"text": self.texts.of(captions)}
        ids, used = token_ids(self.tokenizer, captions, text_length(self.tokenizer, self.text_encoder))
        return {"ids": ids, "used": used}

    def predict(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """See `DenoisingLoss.predict`."""
        return self.denoising.predict(batch)

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        loss, numbers = self.denoising(batch)
        if self.alignment is None:
            return loss, numbers
        parts, more = self.alignment.loss(batch["parts"])
        return loss + self.settings.align_weight * parts, {**numbers, **more}

    def batch(self, samples: range) -> dict[str, Any]:
        """latents, noise (n, c, h, w); pose (n, ...), what the method is told; posed (n,), False where the pose is
        dropped; captions, "" where the text is dropped; timesteps (n,)."""
        draws = [self.draw(index) for index in samples]
        latents = np.stack([self.caches[one.augmentation].images[one.row] for one in draws]).astype(np.float32)
        return {
            "latents": torch.from_numpy(latents),
            "pose": self._poses(draws),
            "posed": torch.tensor([not one.drops_pose for one in draws]),
            "noise": torch.stack([one.noise for one in draws]),
            "captions": [one.caption for one in draws],
            "timesteps": torch.tensor([one.timestep for one in draws]),
        }

    def _poses(self, draws: Sequence[SampleDraw]) -> Tensor:
        """What the method is told of each, (n, ...); where it reads the latent of the drawing, that from the cache,
        zero for a dropped one."""
        if self.method.latent_drawing:
            skeletons = np.zeros((len(draws), *self.caches[0].skeletons[draws[0].row].shape), np.float32)
            for place, one in enumerate(draws):
                if not one.drops_pose:
                    skeletons[place] = self.caches[one.augmentation].skeletons[one.row]
            return torch.from_numpy(skeletons)
        poses = [None if one.drops_pose else self._people(one.row, one.augmentation) for one in draws]
        return self.method.condition(poses, self.image_cache.canvas(draws[0].row), self.method.draw_style)

    def _people(self, row: int, number: int) -> People:
        return augmentation(self.image_cache, row, number).people(self.image_cache.people[row])

    def draw(self, index: int) -> SampleDraw:
        """What is random about sample number `index`, in the order in which it was always drawn."""
        settings, rng = self.settings, sample_rng(self.settings.seed, index)
        row, number = self._row(index, rng)
        wordings = self.image_cache.captions[row]
        caption = wordings[int(rng.integers(len(wordings)))]
        drops_text, drops_pose = rng.random(2) < (settings.text_dropout, settings.pose_dropout)
        noise = (
            nearest_noise(rng, self.caches[number].images[row], settings.noise_candidates)
            if settings.noise_candidates > 1
            else sample_noise(rng, self.caches[0].images[row].shape)
        )
        timestep = even_timestep(settings.seed, index, self.scheduler.config.num_train_timesteps)
        return SampleDraw(row, number, "" if drops_text else caption, bool(drops_pose), noise, timestep)

    def timestep_weights(self, samples: range, timesteps: Tensor) -> Tensor:
        """What the error of each of these samples counts, (n,): min-SNR up to `min_snr_samples`, then 1.

        For velocity prediction min-SNR all but leaves out the noisiest timesteps, which alone have to read from the
        text what colour cloth is: elsewhere the noisy image shows it.
        """
        settings = self.settings
        if settings.min_snr_gamma == 0:
            return torch.ones_like(timesteps, dtype=torch.float32)
        snr = signal_to_noise(self.alphas, timesteps)
        weights = min_snr_weight(snr, settings.min_snr_gamma, self.scheduler.config.prediction_type)
        index = torch.arange(samples.start, samples.stop, device=weights.device)
        alike = (index >= settings.min_snr_samples) & (settings.min_snr_samples > 0)
        return torch.where(alike, torch.ones_like(weights), weights)

    def weight_maps(self, samples: range) -> Tensor | None:
        """The weight (n, 1, h, w) of the squared error that the settings' loss gives these samples; None: plain."""
        make = WEIGHT_MAPS.get(self.settings.loss)
        if make is None:
            return None
        maps = []
        for index in samples:
            row, number = self._row(index, sample_rng(self.settings.seed, index))
            if (row, number) not in self.maps:
                change = augmentation(self.image_cache, row, number)
                known = self.image_cache.mask(row) if self.settings.mask == "own" else None
                own = None if known is None else change.mask(known)
                height, width = self.caches[0].images[row].shape[1:]
                weight = make(self._people(row, number), (width, height), self.settings.mask_strength, own)
                self.maps[row, number] = weight.astype(np.float16)
            maps.append(torch.from_numpy(self.maps[row, number].astype(np.float32)))
        while len(self.maps) > MAPS_KEPT:
            self.maps.pop(next(iter(self.maps)))
        return torch.stack(maps)

    def cover(self, samples: range) -> Tensor | None:
        """The share of each latent position that people cover, (n, 1, h, w), of the first samples of every
        `COVER_EVERY`th batch: drawing it takes a millisecond a sample."""
        if samples.start // self.settings.batch_size % COVER_EVERY:
            return None
        rows = [self._row(index, sample_rng(self.settings.seed, index)) for index in samples[:COVER_SAMPLES]]
        height, width = self.caches[0].images[rows[0][0]].shape[1:]
        covers = [skeleton_mask(self._people(row, number), (width, height), 1.0) - 1 for row, number in rows]
        return torch.from_numpy(np.stack(covers))

    def _row(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """Row and variant of this sample; the variant is the first thing that its fresh `rng` draws, if any."""
        cached_augmentations = self.settings.cached_augmentations
        number = int(rng.integers(cached_augmentations)) if cached_augmentations > 1 else 0
        row = image_row(self.settings.seed, index, self.image_cache.counts, self.settings.batch_size)
        return row, number

    def pipeline(self) -> HumanSDPipeline:
        """The pipeline around the networks as they are now."""
        return HumanSDPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            pose_network=self.networks.pose_network,
            method=self.settings.method,
            scheduler=self.scheduler,
            draw_style=self.method.draw_style.to_dict(),
            guidance=Guidance(*(getattr(self.settings, name) for name in GUIDANCE)).config(),
            num_inference_steps=self.settings.inference_steps,
        )

    def export(self, folder: Path) -> None:
        """Writes the whole pipeline as a diffusers folder, with the loader that the method needs."""
        self.module.eval()
        parts = self.vae, self.text_encoder, self.tokenizer, self.unet, self.scheduler
        pipeline = self.pipeline() if self.method.reads_pose else plain_pipeline(*parts)
        pipeline.save_pretrained(folder, safe_serialization=True)

    def log_images(self, folder: Path, step: int) -> None:
        """Skeleton | image for the same few poses and captions of the training data, always with the same seeds."""
        self.module.eval()
        save_previews(self.pipeline(), self.image_cache, folder / f"step-{step:08d}.png")
