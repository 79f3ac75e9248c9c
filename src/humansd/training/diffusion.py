"""Training the UNet: plain Stable Diffusion, or HumanSD with the skeleton latent concatenated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
from humansd.methods.protocol import Method, Networks
from humansd.methods.table import find_method
from humansd.models.codec import text_length, token_ids, vae_scale_factor
from humansd.models.loading import from_hub, load_part
from humansd.models.pocket import pocket_unet
from humansd.models.tokenizers import load_tokenizer
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.plain import plain_pipeline
from humansd.pipelines.schedulers import USABLE
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE, draw_people
from humansd.training.bases import check_base, check_base_kind, part_config
from humansd.training.denoising import DenoisingLoss
from humansd.training.heatmap_weighting import PREDICTION_LOSSES, LossWeighter, loss_weighter_folder, make_loss_weighter
from humansd.training.identity import digests
from humansd.training.randomness import data_row, even_timestep, noise_seed, sample_noise, sample_rng
from humansd.training.settings import DiffusionSettings

PREVIEWS, PREVIEWS_AT_ONCE = 8, 2  # few at once: their decoding takes memory beside the run's own
PREVIEW_STEPS = 20
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


def _unet_class(method: Method, base: str) -> type[UNet2DConditionModel]:
    """The method's own class where the base has learnt with it."""
    own = method.unet_class
    return own if part_config(base, "unet").get("_class_name") == own.__name__ else UNet2DConditionModel


@dataclass(frozen=True)
class SampleDraw:
    """What is random about one training sample.

    row: of the image cache. augmentation: its number, 0 for the image as it is. caption: one of the row's wordings, ""
    where the text is dropped. drops_pose: whether the pose is. noise: (c, h, w). timestep: of the noise schedule.
    """

    row: int
    augmentation: int
    caption: str
    drops_pose: bool
    noise: Tensor
    timestep: int


def frozen_but(networks: Networks, learns: nn.Module) -> nn.Module:
    """`learns`, and of the networks nothing else takes a gradient."""
    own = networks.pose_network
    for network in (networks.unet, *([] if own is None else [own])):
        network.requires_grad_(False)
    return learns.requires_grad_(True)


class DiffusionTask:
    """Denoising with frozen VAE and text encoder; what the method says learns (HumanSD sec. 3.2: all of the UNet)."""

    def __init__(self, settings: DiffusionSettings) -> None:
        if settings.loss not in (*WEIGHT_MAPS, *PREDICTION_LOSSES):
            raise ValueError(f"loss = {settings.loss!r}: known are {', '.join((*WEIGHT_MAPS, *PREDICTION_LOSSES))}")
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
        weighs = settings.loss in PREDICTION_LOSSES
        weighter = make_loss_weighter(settings, self.vae, self.image_cache.size) if weighs else None
        torch.manual_seed(settings.seed)
        self.method = find_method(settings.method)
        unet = (
            load_part(_unet_class(self.method, settings.base), settings.base, "unet")
            if settings.base
            else pocket_unet()
        )
        check_base(unet, self.vae, self.text_encoder, settings)
        self.networks = self.method.build(unet, self.vae)
        if self.method.network is not None and (Path(settings.base) / "pose_network").is_dir():
            self.networks.pose_network = load_part(self.method.network, settings.base, "pose_network")
        self.unet = self.networks.unet
        self.module = frozen_but(self.networks, self.method.learns(self.networks))
        if settings.train_text:
            self.text_encoder.requires_grad_(True)
            self.module = nn.ModuleDict({"unet": self.module, "text_encoder": self.text_encoder})
        self.denoising = DenoisingLoss(settings, self.networks, self.scheduler, weighter, self.text_encoder)
        self.caches: list[LatentCache] = []  # one for each variant
        self.texts: TextCache | None = None
        self.maps: dict[tuple[int, int], np.ndarray] = {}  # of a variant of a row

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
        batch = self.batch(samples)
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
            skeletons = np.zeros((len(draws), *self.caches[0].skeletons.shape[1:]), np.float32)
            for place, one in enumerate(draws):
                if not one.drops_pose:
                    skeletons[place] = self.caches[one.augmentation].skeletons[one.row]
            return torch.from_numpy(skeletons)
        poses = [None if one.drops_pose else self._people(one.row, one.augmentation) for one in draws]
        return self.method.condition(poses, (self.image_cache.size, self.image_cache.size), self.method.draw_style)

    def _people(self, row: int, number: int) -> People:
        return augmentation(self.image_cache, row, number).people(self.image_cache.people[row])

    def draw(self, index: int) -> SampleDraw:
        """What is random about sample number `index`, in the order in which it was always drawn."""
        settings, channels = self.settings, self.caches[0].images.shape[1:]
        rng = sample_rng(settings.seed, index)
        row, number = self._row(index, rng)
        wordings = self.image_cache.captions[row]
        caption = wordings[int(rng.integers(len(wordings)))]
        drops_text, drops_pose = rng.random(2) < (settings.text_dropout, settings.pose_dropout)
        noise = sample_noise(rng, channels)
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
            guidance={"text": self.settings.guidance_scale, "pose": self.settings.pose_guidance_scale},
            num_inference_steps=self.settings.inference_steps,
        )

    def export(self, folder: Path) -> None:
        """Writes the whole pipeline as a diffusers folder, with the loader that the method needs."""
        self.module.eval()
        parts = self.vae, self.text_encoder, self.tokenizer, self.unet, self.scheduler
        pipeline = self.pipeline() if self.method.reads_pose else plain_pipeline(*parts)
        pipeline.save_pretrained(folder, safe_serialization=True)

    @torch.no_grad()
    def log_images(self, folder: Path, step: int) -> None:
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
            asked: dict[str, Any] = {"guidance_scale": 4.0, "seed": at, "return_dict": False}
            images += pipeline(prompts[few], people[few], num_inference_steps=PREVIEW_STEPS, **asked)[0]
        rows_of_sheet = [
            (draw_people(one, HUMANSD_STYLE), [image], prompt)
            for one, image, prompt in zip(people, images, prompts, strict=True)
        ]
        contact_sheet(rows_of_sheet).save(folder / f"step-{step:08d}.png")
