"""Training the UNet: plain Stable Diffusion, or HumanSD with the skeleton latent concatenated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from humansd.data.augmentations import augmentation
from humansd.data.image_cache import find_image_cache
from humansd.data.latents import LatentCache, TextCache, build_latents, build_texts
from humansd.inference.image_info import contact_sheet
from humansd.losses.denoising import min_snr_weight, signal_to_noise
from humansd.losses.weights import WEIGHT_MAPS, skeleton_mask
from humansd.models.codec import text_length, token_ids, vae_scale_factor
from humansd.models.loading import from_hub, load_part
from humansd.models.pocket import pocket_unet
from humansd.models.tokenizers import load_tokenizer
from humansd.models.widen import widen_conv_in
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.plain import plain_pipeline
from humansd.pipelines.schedulers import USABLE
from humansd.pose.render import HUMANSD_STYLE, draw_people
from humansd.training.bases import check_base, check_base_kind
from humansd.training.denoising import DenoisingLoss
from humansd.training.heatmap_weighting import GUIDED, LossWeighter, loss_weighter_folder, make_loss_weighter
from humansd.training.identity import digests
from humansd.training.randomness import data_row, even_timestep, noise_seed, sample_noise, sample_rng
from humansd.training.settings import DiffusionSettings

PREVIEWS, PREVIEWS_AT_ONCE = 8, 2  # few at once: their decoding takes memory beside the run's own
COVER_EVERY, COVER_SAMPLES = 10, 32  # batches, and samples of one, whose error inside people is logged
MAPS_KEPT = 100_000  # weight maps that are remembered instead of drawn again
REFERENCE = "as in the published code"


def load_scheduler(parts: str, zero_terminal_snr: bool) -> DDIMScheduler:
    """The noise schedule of `parts`; on request rescaled so that the last timestep is pure noise, where sampling then
    begins (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps Are Flawed", Alg. 1 and sec. 3.3).

    Raises:
        ValueError: a scheduler of another kind of model; or pure noise with noise prediction, which then learns
            nothing: the network sees what it has to say.
    """
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero_terminal_snr else {}
    config = from_hub(DDIMScheduler.load_config, parts, subfolder="scheduler")
    own = config.get("_class_name", "DDIMScheduler")
    if own not in USABLE:
        raise ValueError(
            f"{parts}: scheduler/scheduler_config.json is of a {own}, which is made for models of another kind; name "
            "parts with a scheduler of Stable Diffusion's, such as DDIMScheduler"
        )
    scheduler = DDIMScheduler.from_config(config, **changes)
    kind = scheduler.config.prediction_type
    if scheduler.config.rescale_betas_zero_snr and kind != "v_prediction":
        raise ValueError(
            f"zero_terminal_snr: {parts} has prediction_type {kind!r} in scheduler/scheduler_config.json, and from "
            "pure noise only v_prediction can start; name parts that predict velocity, or use zero_terminal_snr=false "
            "and a scheduler without rescale_betas_zero_snr"
        )
    return scheduler


def model_size(settings: DiffusionSettings, vae: AutoencoderKL) -> int:
    """Px of a side of the images that the UNet of `settings.base` (without one, the pocket UNet) is made for."""
    if settings.base:
        side = from_hub(UNet2DConditionModel.load_config, settings.base, subfolder="unet").get("sample_size")
    else:
        side = pocket_unet().config.sample_size
    return side * vae_scale_factor(vae) if isinstance(side, int) else 0


class DiffusionTask:
    """Denoising with frozen VAE and text encoder; all UNet weights learn (HumanSD sec. 3.2)."""

    def __init__(self, settings: DiffusionSettings) -> None:
        if settings.loss not in (*WEIGHT_MAPS, *GUIDED):
            raise ValueError(f"loss = {settings.loss!r}: known are {', '.join((*WEIGHT_MAPS, *GUIDED))}")
        self.settings = settings
        parts = settings.parts or settings.base
        if settings.base:
            check_base_kind(settings.base)
        self.text_encoder = load_part(CLIPTextModel, parts, "text_encoder").requires_grad_(False).eval()
        self.tokenizer = load_tokenizer(parts, self.text_encoder)
        self.vae = load_part(AutoencoderKL, parts, "vae").requires_grad_(False).eval()
        self.scheduler = load_scheduler(parts, settings.zero_terminal_snr)
        self.alphas = self.scheduler.alphas_cumprod.cpu()  # the scheduler takes its own to the GPU
        self.image_cache = find_image_cache(Path(settings.data), settings.image_size, model_size(settings, self.vae))
        guide = make_loss_weighter(settings, self.vae, self.image_cache.size) if settings.loss in GUIDED else None
        torch.manual_seed(settings.seed)
        unet = load_part(UNet2DConditionModel, settings.base, "unet") if settings.base else pocket_unet()
        check_base(unet, self.vae, self.text_encoder, settings)
        channels = self.vae.config.latent_channels
        if settings.pose == "concat" and unet.config.in_channels == channels:
            unet = widen_conv_in(unet, channels)
        self.unet = unet
        self.module: nn.Module = unet
        if settings.train_text:
            self.text_encoder.requires_grad_(True)
            self.module = nn.ModuleDict({"unet": unet, "text_encoder": self.text_encoder})
        self.denoising = DenoisingLoss(settings, unet, self.scheduler, guide, self.text_encoder)
        self.caches: list[LatentCache] = []  # one for each variant
        self.texts: TextCache | None = None
        self.maps: dict[tuple[int, int], np.ndarray] = {}  # of a variant of a row

    @property
    def guide(self) -> LossWeighter | None:
        """What weighs the loss by the prediction, if anything does."""
        return self.denoising.guide

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.denoising.device

    def fingerprint(self) -> dict[str, str]:
        settings = self.settings
        known = {
            **digests("base", settings.base, ["unet"]),
            **digests("parts", settings.parts or settings.base, ["vae", "text_encoder", "tokenizer", "scheduler"]),
            **digests("guide", loss_weighter_folder(settings)),
            "data_digest": self.image_cache.digest(),
        }
        return known | ({"reference_loss": REFERENCE} if settings.loss == "reference" else {})

    def prepare(self, device: torch.device) -> None:
        self.denoising.prepare(device)
        self.vae.to(device, memory_format=torch.channels_last)
        self.text_encoder.to(device)
        self.caches = [
            build_latents(self.image_cache, self.vae, HUMANSD_STYLE, self.image_cache.folder, number)
            for number in range(self.settings.cached_augmentations)
        ]
        if self.settings.cache_text:
            captions = ["", *(caption for wordings in self.image_cache.captions for caption in wordings)]
            self.texts = build_texts(captions, self.tokenizer, self.text_encoder, self.image_cache.folder)

    def load(self, samples: range) -> dict[str, Any]:
        """Everything `loss` needs of these samples: `batch`, by name, and the weights of timesteps and places."""
        names = ("latents", "skeletons", "noise", "captions", "timesteps")
        batch: dict[str, Any] = dict(zip(names, self.batch(samples), strict=True))
        weights = self.timestep_weights(samples, batch["timesteps"])
        batch |= self._text(batch.pop("captions"))
        maps, cover = self.weight_maps(samples), self.cover(samples)
        seeds = [noise_seed(self.settings.seed, index) for index in samples]
        return {**batch, "weights": weights, "maps": maps, "cover": cover, "seeds": seeds}

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
        return self.denoising(batch)

    def batch(self, samples: range) -> tuple[Tensor, Tensor, Tensor, list[str], Tensor]:
        """Latents, skeleton latents (zero where the pose is dropped), noise (n, c, h, w); captions ("" where the
        text is dropped); timesteps (n,)."""
        settings = self.settings
        shape = (len(samples), *self.caches[0].images.shape[1:])
        latents, skeletons = (np.empty(shape, np.float32) for _ in range(2))
        captions, noise = [], []
        for place, index in enumerate(samples):
            rng = sample_rng(settings.seed, index)
            row, number = self._row(index, rng)
            wordings = self.image_cache.captions[row]
            caption = wordings[int(rng.integers(len(wordings)))]
            drop_text, drop_pose = rng.random(2) < (settings.text_dropout, settings.pose_dropout)
            captions.append("" if drop_text else caption)
            latents[place] = self.caches[number].images[row]
            skeletons[place] = 0 if drop_pose else self.caches[number].skeletons[row]
            noise.append(sample_noise(rng, shape[1:]))
        steps = self.scheduler.config.num_train_timesteps
        timesteps = torch.tensor([even_timestep(settings.seed, index, steps) for index in samples])
        return torch.from_numpy(latents), torch.from_numpy(skeletons), torch.stack(noise), captions, timesteps

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
        height, width = self.caches[0].images.shape[2:]
        maps = []
        for index in samples:
            row, number = self._row(index, sample_rng(self.settings.seed, index))
            if (row, number) not in self.maps:
                change = augmentation(self.image_cache, row, number)
                known = self.image_cache.mask(row) if self.settings.mask == "own" else None
                own = None if known is None else change.mask(known)
                people = change.people(self.image_cache.people[row])
                weight = make(people, (width, height), self.settings.mask_strength, own)
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
        height, width = self.caches[0].images.shape[2:]
        rows = (self._row(index, sample_rng(self.settings.seed, index)) for index in samples[:COVER_SAMPLES])
        everyone = (
            augmentation(self.image_cache, row, number).people(self.image_cache.people[row]) for row, number in rows
        )
        return torch.from_numpy(np.stack([skeleton_mask(people, (width, height), 1.0) - 1 for people in everyone]))

    def _row(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """Row and variant of this sample; the variant is the first thing that its fresh `rng` draws, if any."""
        cached_augmentations = self.settings.cached_augmentations
        number = int(rng.integers(cached_augmentations)) if cached_augmentations > 1 else 0
        return data_row(self.settings.seed, index, len(self.image_cache)), number

    def pipeline(self) -> HumanSDPipeline:
        """The pipeline around the UNet as it is now."""
        unet = self.unet
        if unet.config.in_channels == self.vae.config.latent_channels:
            unet = widen_conv_in(unet, self.vae.config.latent_channels)
        return HumanSDPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=unet,
            scheduler=self.scheduler,
            draw_style=HUMANSD_STYLE.to_dict(),
            guidance={"text": self.settings.guidance, "pose": self.settings.pose_guidance_scale},
            num_inference_steps=self.settings.inference_steps,
        )

    def export(self, folder: Path) -> None:
        """Writes the whole pipeline as a diffusers folder: HumanSD's, or plain Stable Diffusion's."""
        self.module.eval()
        parts = self.vae, self.text_encoder, self.tokenizer, self.unet, self.scheduler
        pipeline = self.pipeline() if self.settings.pose == "concat" else plain_pipeline(*parts)
        pipeline.save_pretrained(folder, safe_serialization=True)

    @torch.no_grad()
    def preview(self, folder: Path, step: int) -> None:
        """Skeleton | image for the same few poses and captions of the training data, always with the same seeds."""
        folder.mkdir(parents=True, exist_ok=True)
        self.module.eval()
        rows = np.linspace(0, len(self.image_cache) - 1, PREVIEWS).astype(int)
        people = [self.image_cache.people[row] for row in rows]
        prompts = [self.image_cache.captions[row][0] for row in rows]
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        images: list[Any] = []
        for at in range(0, PREVIEWS, PREVIEWS_AT_ONCE):
            few = slice(at, at + PREVIEWS_AT_ONCE)
            asked: dict[str, Any] = {"num_inference_steps": 20, "guidance_scale": 4.0, "seed": at, "return_dict": False}
            images += pipeline(prompts[few], people[few], **asked)[0]
        rows_of_sheet = [
            (draw_people(one, HUMANSD_STYLE), [image], prompt)
            for one, image, prompt in zip(people, images, prompts, strict=True)
        ]
        contact_sheet(rows_of_sheet).save(folder / f"step-{step:08d}.png")
