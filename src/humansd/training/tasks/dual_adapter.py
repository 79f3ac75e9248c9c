"""The secondary adapter of CN117392675A: base and primary adapter are frozen, one text and one noise, two poses."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from humansd.data.image_cache import ImageCache
from humansd.data.latents import LatentCache, build_latents
from humansd.data.pairs import cached_changes
from humansd.inference.image_info import contact_sheet
from humansd.losses import dual_adapter as formulas
from humansd.methods.dual_adapter import load_adapter
from humansd.methods.protocol import Networks
from humansd.methods.table import find_method
from humansd.models.codec import encode_ids, text_length, token_ids
from humansd.models.loading import load_part, on_hub
from humansd.models.tiny_decoder import TinyDecoder
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pose.people import People
from humansd.pose.render import HUMANSD_STYLE, DrawStyle, draw_people
from humansd.training.counting import Shapes
from humansd.training.identity import digests
from humansd.training.quintuples import Quintuples
from humansd.training.randomness import sample_noise, sample_rng
from humansd.training.routes import Schedule
from humansd.training.small_models import SmallModel, small_model
from humansd.training.tasks.base import BaseTask
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.tasks.diffusion_settings import DiffusionSettings
from humansd.training.tasks.dual_adapter_settings import DualAdapterSettings
from humansd.training.teachers import check_weights

LARGEST_WEIGHT = 5.0  # of a step of "pairs", as of min-SNR
PREVIEWS = 4


class DualAdapterTask(BaseTask):
    """Route 1 is the primary adapter with pose A, route 2 the secondary with pose B; `Task` of `training.loop`."""

    def __init__(self, settings: DualAdapterSettings) -> None:
        """Raises ValueError, OSError: no primary adapter, a small model that does not fit, or no quintuple."""
        self.settings = settings
        plain = {field.name: getattr(settings, field.name) for field in dataclasses.fields(DiffusionSettings)}
        self.inner = DiffusionTask(DiffusionSettings(**{**plain, "loss": "ldm", "compile": "no"}))
        assert isinstance(self.inner.image_cache, ImageCache)  # without buckets, the settings say
        self.image_cache = self.inner.image_cache
        self.method, self.scheduler = self.inner.method, self.inner.scheduler
        self.primary = _primary(settings, self.inner.networks).requires_grad_(False).eval()
        self.inner.networks.pose_network = self.primary
        self.secondary = copy.deepcopy(self.primary).requires_grad_(True)
        self.module: nn.Module = self.secondary
        unet, vae = self.inner.unet.requires_grad_(False).eval(), self.inner.vae
        self.routes = Networks(unet, vae, self.primary), Networks(unet, vae, self.secondary)
        self.style = primary_style(settings, self.method.draw_style)
        pairs = settings.objective == "pairs"
        self.quintuples = Quintuples(self.image_cache, settings.least_joints, true_pairs=settings.true_pairs or pairs)
        self.schedule = Schedule.of(self.scheduler, settings.ddim_steps)
        self.strength = strength(settings, self.schedule)
        small, shown = fitting_model(settings, self.image_cache.size)
        decoder = _decoder(settings.decoder) if settings.decoder else vae
        self.sight = small.sight(decoder, small.load(), shown)
        self.latents: LatentCache | None = None  # of "pairs"
        self.changes = cached_changes(self.image_cache) if pairs else {}
        self.device = torch.device("cpu")

    @staticmethod
    def describe(settings: DualAdapterSettings) -> dict[str, Any]:
        """See `BaseTask.describe`."""
        from humansd.training.tasks.dual_adapter_costs import dual_cost

        return dual_cost(settings)

    @staticmethod
    def check(settings: DualAdapterSettings) -> None:
        """See `BaseTask.check`."""
        check_weights(settings)
        small_model(settings).source()
        _check_primary(settings)

    @staticmethod
    def shapes(settings: DualAdapterSettings) -> Shapes:
        """See `BaseTask.shapes`."""
        from humansd.training.tasks.dual_adapter_costs import dual_shapes

        return dual_shapes(settings)

    def fingerprint(self) -> dict[str, str]:
        settings = self.settings
        known = self.inner.fingerprint() | digests("estimator", small_model(settings).source())
        return known | digests("primary", settings.primary) | digests("decoder", settings.decoder or None)

    def prepare(self, device: torch.device) -> None:
        self.device = device
        self.inner.denoising.prepare(device)
        for network in (self.primary, self.secondary, self.inner.text_encoder, self.inner.vae):
            network.to(device)
        self.sight.to(device)
        if self.settings.objective == "pairs":
            cache = self.image_cache
            self.latents = build_latents(cache, self.inner.vae, HUMANSD_STYLE, cache.folder)

    def load(self, samples: range) -> dict[str, Any]:
        """drawings (2, n, 3, H, W) of A and B; wanted (2, n, ...), what the small model should see of them, and known
        (n, ...), which of its values both have; ids, used (n, tokens); noise (n, c, h, w), of both routes; steps, which
        are learnt from; of "pairs" also latents (2, n, c, h, w) of the images and changes (n, 1, h, w), 0..1."""
        found = [self.quintuples.draw(self.settings.seed, index) for index in samples]
        side = self.image_cache.size
        sides = [[one.first for one in found], [one.second for one in found]]
        vae = self.inner.vae
        latent = side // 2 ** (len(vae.config.block_out_channels) - 1)
        shape = (vae.config.latent_channels, latent, latent)
        rngs = [sample_rng(self.settings.seed + 1, index) for index in samples]
        length = text_length(self.inner.tokenizer, self.inner.text_encoder)
        dropped = [rng.random() < self.settings.text_dropout for rng in rngs]
        words = ["" if drop else one.caption for drop, one in zip(dropped, found, strict=True)]
        ids, used = token_ids(self.inner.tokenizer, words, length)
        wanted, known = zip(
            *(self._wanted(people, [one.rows[side] for one in found]) for side, people in enumerate(sides))
        )
        batch = {
            "drawings": torch.stack([self.method.condition(poses, (side, side), self.style) for poses in sides]),
            "wanted": torch.stack(wanted),
            "known": known[0] & known[1],
            "ids": ids,
            "used": used,
            "noise": torch.stack([sample_noise(rng, shape) for rng in rngs]),
            "steps": self.sampled(samples.start),
        }
        return batch | (self._true(found, latent) if self.latents is not None else {})

    def _wanted(self, people: Sequence[People], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What the small model should see of one person each, in the images of these rows."""
        own = self.settings.mask == "own"
        return self.sight.wanted(people, [self.image_cache.mask(row) if own else None for row in rows])

    def sampled(self, start: int) -> list[int]:
        """The steps that the part of a batch that begins with sample `start` learns from: each as often as any other,
        so that their mean is, on average, that over all steps."""
        count = self.settings.ddim_steps
        rng = np.random.default_rng((self.settings.seed, start, 2))
        return sorted(int(one) for one in rng.choice(count, self.settings.sampled_steps, replace=False))

    def _true(self, found: Sequence[Any], latent: int) -> dict[str, Tensor]:
        """Latents of both images, and where they may differ, of true pairs."""
        assert self.latents is not None
        rows = np.array([one.rows for one in found])
        images = np.asarray(self.latents.images)
        both = [torch.from_numpy(images[rows[:, side]].astype(np.float32)) for side in (0, 1)]
        whole = np.ones((self.image_cache.size,) * 2, bool)
        masks = [self.changes.get(int(one.min()), whole) for one in rows]
        small = torch.from_numpy(np.stack(masks).astype(np.float32))[:, None]
        return {
            "latents": torch.stack(both),
            "changes": nn.functional.interpolate(small, size=(latent,) * 2, mode="area"),
        }

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """The mean loss of the batch; its gradient is that of the sampled steps, one at a time in memory."""
        parts = {name: one.to(self.device) for name, one in batch.items() if isinstance(one, Tensor)}
        with torch.no_grad():
            text = encode_ids(self.inner.text_encoder, parts["ids"], parts["used"])
            first = self.method.encode(self.routes[0], parts["drawings"][0])
        second = self.method.encode(self.routes[1], parts["drawings"][1])
        leaves = [one.detach().float().requires_grad_() for one in second]
        each = self._of_pairs if self.settings.objective == "pairs" else self._of_patent
        gradients = [torch.zeros_like(one) for one in leaves]
        values, numbers = [], []
        for value, told in each(parts, text, first, leaves, batch["steps"]):
            values.append(value.detach())
            numbers.append(told)
            if value.requires_grad:
                for total, one in zip(gradients, torch.autograd.grad(value, leaves), strict=True):
                    total += one
        scale = self.settings.ddim_steps / len(values) if self.settings.total == "sum" else 1 / len(values)
        mean = torch.stack(values).sum() * scale
        carried = sum(((one.float() * g).sum() for one, g in zip(second, gradients, strict=True)), mean.new_zeros(()))
        carried = carried * scale
        told = {name: float(np.mean([one[name] for one in numbers])) for name in numbers[0]}
        if "theory" in told:
            told["against_theory"] = float(mean) / max(told["theory"] * scale * len(values), 1e-12)
        return mean + carried - carried.detach(), told

    def answer(self, route: int, text: Tensor, features: Sequence[Tensor]) -> Callable[[Tensor, Any], Tensor]:
        """What the UNet says on a route, as `Schedule` asks for it."""
        networks = self.routes[route]

        def ask(latents: Tensor, timestep: Any) -> Tensor:
            given = self.method.unet_inputs(networks, latents, timestep, text, tuple(features))
            sample = given.pop("sample").contiguous(memory_format=torch.channels_last)
            return networks.unet(sample, given.pop("timestep"), **given).sample

        return ask

    def _of_patent(
        self, parts: dict[str, Tensor], text: Tensor, first: Sequence[Tensor], second: list[Tensor], steps: list[int]
    ) -> Any:
        """Yields the loss of each step with what is known of it; both routes run as one batch up to there."""
        n = len(text)
        with torch.no_grad():
            joined = [torch.cat(both) for both in zip(first, second, strict=True)]
            both_ways = self.answer(1, torch.cat([text, text]), joined)
            known = self.schedule.chain(both_ways, parts["noise"].repeat(2, 1, 1, 1), steps)
        ask = self.answer(1, text, second)
        for step in steps:
            latents, clean, eps = known[step]
            with torch.no_grad():
                a, _ = self.sight.see(clean[:n])
            timestep = self.schedule.timesteps[step]
            found, noise = self.schedule.clean_and_noise(latents[n:], ask(latents[n:], timestep), step)
            b, sure = self.sight.see(found)
            abar = self.schedule.abars[step].to(latents.device)
            yield self.terms(a, b, sure * parts["known"], parts["wanted"], (eps[:n], noise, abar))

    def terms(
        self, a: Tensor, b: Tensor, weights: Tensor, wanted: Tensor, noises: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """The mean loss of a step, and its terms.

        a, b: (n, ...), what the small model sees on route 1 and 2, whose distance it is: points (n, 17, 2) or masks
        (n, h, w). weights: (n, ...), how much each value counts. wanted: (2, n, ...), A and B. noises: eps of both
        routes (n, c, h, w), and abar.
        """
        settings, (target_a, target_b), distance = self.settings, wanted, self.sight.distance
        to_target = distance(b, target_b, weights)
        apart = distance(b, a, weights)
        theory = formulas.theoretical_value(target_a, target_b, weights, distance)
        held = formulas.constancy(apart, theory, settings.constancy)  # type: ignore[arg-type]
        loss = formulas.step_loss(to_target, held, self.strength)
        diffusion = formulas.diffusion_distance(*noises)
        if settings.diffusion_weight:
            loss = loss + settings.diffusion_weight * diffusion
        seen = distance(target_b, a, weights)
        told = {
            "to_target": to_target,
            "held": held,
            "l_diffusion": diffusion,
            "theory": theory,
            "least": formulas.least_loss(seen, self.strength),
            "sure": weights.flatten(1).mean(dim=1),
        }
        return loss.mean(), {name: float(one.detach().mean()) for name, one in told.items()}

    def _of_pairs(
        self, parts: dict[str, Tensor], text: Tensor, first: Sequence[Tensor], second: list[Tensor], steps: list[int]
    ) -> Any:
        """Yields the loss of each step: route 1's noise of the true image A must lead route 2 to the true image B."""
        start, wanted = parts["latents"]
        with torch.no_grad():
            noise = self.schedule.inverted(self.answer(0, text, first), start)
            known = self.schedule.chain(self.answer(1, text, second), noise, steps)
        ask = self.answer(1, text, second)
        outside = 1 - parts["changes"]
        for step in steps:
            latents = known[step][0]
            found, _ = self.schedule.clean_and_noise(latents, ask(latents, self.schedule.timesteps[step]), step)
            abar = self.schedule.abars[step].to(latents.device)
            error = (found - wanted).square()
            weight = (1 / (1 - abar)).clamp(max=LARGEST_WEIGHT)  # of the velocity's plain error, bounded
            loss = weight * (error * (1 + self.settings.outside_weight * outside)).mean()
            inside = 1 - outside
            told = {
                "outside": (error * outside).sum() / (outside.sum() * error.shape[1]).clamp(min=1),
                "inside": (error * inside).sum() / (inside.sum() * error.shape[1]).clamp(min=1),
            }
            yield loss, {name: float(one.detach()) for name, one in told.items()}

    def pipeline(self) -> HumanSDPipeline:
        """The pipeline that draws with the secondary adapter as it is now."""
        inner, settings = self.inner, self.settings
        return HumanSDPipeline(
            vae=inner.vae,
            text_encoder=inner.text_encoder,
            tokenizer=inner.tokenizer,
            unet=inner.unet,
            scheduler=inner.scheduler,
            pose_network=self.secondary,
            method="dual-adapter",
            draw_style=self.style.to_dict(),
            guidance={"text": settings.guidance_scale, "pose": settings.pose_guidance_scale},
            num_inference_steps=settings.inference_steps,
        )

    def export(self, folder: Path) -> None:
        """Writes the whole pipeline as a diffusers folder."""
        self.secondary.eval()
        self.pipeline().save_pretrained(folder, safe_serialization=True)

    @torch.no_grad()
    def log_images(self, folder: Path, step: int) -> None:
        """Of a few quintuples: skeleton of A, and A and B drawn with one prompt and one seed."""
        folder.mkdir(parents=True, exist_ok=True)
        self.secondary.eval()
        pipeline = self.pipeline()
        pipeline.set_progress_bar_config(disable=True)
        rows = []
        for index in range(PREVIEWS):
            one = self.quintuples.draw(0, 2 * index)
            asked: dict[str, Any] = {"num_inference_steps": 20, "generator": [_generator(index), _generator(index)]}
            images = pipeline([one.caption] * 2, [one.first, one.second], **asked, return_dict=False)[0]
            rows.append((draw_people(one.first, HUMANSD_STYLE), list(images), one.caption))
        contact_sheet(rows).save(folder / f"step-{step:08d}.png")


def _decoder(source: str) -> Any:
    """diffusers' AutoencoderTiny, or an export of pocket-tiny-decoder."""
    config = Path(source) / "config.json"
    known = json.loads(config.read_text()) if config.is_file() else {}
    return load_part(TinyDecoder if known.get("_class_name") == "TinyDecoder" else AutoencoderTiny, source, "")


def strength(settings: DualAdapterSettings, schedule: Schedule) -> float:
    """Q under these settings."""
    if settings.alphas == "literal":
        abars = formulas.literal_abars(settings.ddim_steps)
    else:
        abars = schedule.abars.flip(0)
    return formulas.strength_of(formulas.step_alphas(abars), settings.strength)  # type: ignore[arg-type]


def primary_style(settings: DualAdapterSettings, default: DrawStyle) -> DrawStyle:
    """How the primary adapter's drawings look: as its model says, else as its method does."""
    index = Path(settings.base_model) / "model_index.json"
    if settings.primary or not index.is_file():
        return default
    known = json.loads(index.read_text()).get("draw_style")
    return DrawStyle.from_dict(known) if isinstance(known, dict) else default


def fitting_model(settings: DualAdapterSettings, image_px: int) -> tuple[SmallModel, int]:
    """The small model that the settings name, and the side of the images that it is shown, where the model draws images
    of `image_px`. ValueError, OSError: it is not there or is made for other images."""
    small = small_model(settings)
    shown = small.shown_px(settings.estimator_px, image_px)
    small.check_fit(image_px, shown)
    return small, shown


def _primary(settings: DualAdapterSettings, networks: Networks) -> nn.Module:
    if settings.primary:
        primary = load_adapter(settings.primary)
        find_method(settings.method).check(Networks(networks.unet, networks.vae, primary))
        return primary
    _check_primary(settings)
    assert networks.pose_network is not None
    return networks.pose_network


def _check_primary(settings: DualAdapterSettings) -> None:
    if settings.primary and not Path(settings.primary).exists() and not on_hub(settings.primary):
        raise FileNotFoundError(
            f"primary = {settings.primary!r}: no such file or folder; name a T2I-Adapter's, or a hub id"
        )
    if not settings.primary and not (Path(settings.base_model) / "pose_network").is_dir():
        raise ValueError(
            f"base_model = {settings.base_model!r}: holds no trained adapter; train one (humansd train "
            "t2i-adapter-pocket --set base_model=FOLDER), and name its export as base_model, or a published one "
            "with --set primary=FOLDER_OR_ID_OR_FILE"
        )


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
