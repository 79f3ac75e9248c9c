"""What a training of the secondary adapter takes, from shapes alone: memory, operations, hours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.methods.protocol import Method, Networks
from humansd.methods.table import find_method
from humansd.models import pocket
from humansd.models.codec import vae_scale_factor
from humansd.training.bases import base_name, check_start, image_px, part_config, start_config
from humansd.training.counting import Shapes
from humansd.training.routes import Schedule
from humansd.training.sights import Sight
from humansd.training.small_models import small_model
from humansd.training.tasks.dual_adapter_settings import DualAdapterSettings

PATENT = {"hours": 5, "cards": "four of 24 GB", "images": 3000}
CARDS = 4
CARD_FLOPS = 35e12  # a second that a card of 24 GB keeps up in bf16: half of what an RTX 3090 is sold with, 71e12
BASE_STEP = "of a UNet step forward"


@dataclass(frozen=True)
class _Parts:
    """The networks of a run on the meta device. side: px of the images; sight: of the small model behind a decoder."""

    networks: Networks
    text_encoder: CLIPTextModel
    sight: Sight
    method: Method
    side: int

    def conditions(self, samples: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, text, and drawings."""
        latent, config = self.side // vae_scale_factor(self.networks.vae), self.text_encoder.config
        with torch.device("meta"):
            noisy = torch.empty(samples, self.networks.vae.config.latent_channels, latent, latent)
            text = torch.empty(samples, config.max_position_embeddings, config.hidden_size)
            return noisy, text, torch.empty(samples, 3, self.side, self.side)

    def answer(self, samples: int) -> Tensor:
        """One call of the UNet with the adapter."""
        noisy, text, drawings = self.conditions(samples)
        pose = self.method.encode(self.networks, drawings)
        timestep = torch.zeros(samples, dtype=torch.long, device="meta")
        unet: Any = self.networks.unet
        return unet(**self.method.unet_inputs(self.networks, noisy, timestep, text, pose)).sample

    def see(self, latents: Tensor) -> Tensor:
        """What is seen in decoded latents."""
        decoder: Any = self.sight.decoder
        return self.sight.look(decoder.decode(latents, return_dict=False)[0])[0]


def dual_shapes(settings: DualAdapterSettings) -> Shapes:
    """The networks of the run; of the sampled steps one at a time is in memory."""
    parts = _parts(settings)
    assert parts.networks.pose_network is not None
    unet, vae, secondary = parts.networks.unet, parts.networks.vae, parts.networks.pose_network
    with torch.device("meta"):
        primary = type(secondary).from_config(secondary.config)  # type: ignore[attr-defined]
    frozen: dict[str, nn.Module] = {"unet": unet, "vae": vae, "text_encoder": parts.text_encoder, "primary": primary}
    frozen[f"estimator {settings.estimator}"] = parts.sight.network
    if parts.sight.decoder is not vae:
        frozen["decoder"] = parts.sight.decoder
    for one in frozen.values():
        one.requires_grad_(False)

    def forward(samples: int) -> Any:
        answer = parts.answer(samples)
        return answer if settings.objective == "pairs" else parts.see(answer)

    def chain(samples: int) -> Any:
        return parts.answer(2 * samples)

    return Shapes(base_name(settings), secondary.requires_grad_(True), frozen, forward, unet, chain)


def dual_cost(settings: DualAdapterSettings) -> dict[str, Any]:
    """What a dry run says beside the memory: the loss in words with its Q, and operations and hours.

    Raises:
        ValueError, OSError: an estimator that is not named or does not fit the images.
    """
    from humansd.training.tasks.dual_adapter import strength

    small, px = small_model(settings), image_px(settings)
    shown = small.shown_px(settings.estimator_px, px or _parts(settings).side)
    if px is not None:
        small.check_fit(px, shown)
    schedule = Schedule.of(_scheduler(settings.components or settings.base_model), settings.ddim_steps)
    q = strength(settings, schedule)
    loss = {"name": settings.objective, "Q": round(q, 3), "gap to the theoretical value": round(1 / (q + 1), 6)}
    sample = _flops_of_a_sample(settings)
    total = sample * settings.batch_size * settings.steps
    return {
        "loss": {**loss, "teacher": str(small), "teacher_is_shown_px": shown},
        "cost": {
            "flops_of_a_quintuple": f"{sample:.3g}",
            "quintuples": settings.batch_size * settings.steps,
            "hours_on_four_cards_of_24_gb": round(total / (CARDS * CARD_FLOPS) / 3600, 2),
            "assumes": f"{CARD_FLOPS:.2g} FLOP/s kept up by each card, {CARDS} cards",
            "gradient_accumulation_steps_on_four_cards": settings.fewer_parts(CARDS),
            "the_patent_says": PATENT,
        },
    }


def _flops_of_a_sample(settings: DualAdapterSettings) -> float:
    """Of one quintuple in one update: the chains of both routes up to the last sampled step, on average, and the
    sampled steps with their gradients, and what route 1 shows at them; of true pairs the chain back to their noise, the
    secondary's up to the last step, and the gradients of the UNet's answers alone. Checkpoints compute these twice."""
    parts = _parts(settings)
    for one in (parts.networks.unet, parts.networks.vae, parts.text_encoder):
        one.requires_grad_(False)
    pairs = settings.objective == "pairs"
    with FlopCounterMode(display=False) as counter:
        answer = parts.answer(1)
        step = counter.get_total_flops()
        shown = answer if pairs else parts.see(answer)
        seen = counter.get_total_flops() - step
        shown.sum().backward()
        learnt = counter.get_total_flops() + (step if settings.gradient_checkpointing else 0)
    k, count = settings.sampled_steps, settings.ddim_steps
    steps = k * (count + 1) / (k + 1)  # the mean of the largest of k of 1 .. count
    return step * (count + steps) + k * learnt if pairs else 2 * step * steps + k * (learnt + seen)


def _parts(settings: DualAdapterSettings) -> _Parts:
    check_start(settings)
    source = settings.components or settings.base_model
    small = small_model(settings)
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(part_config(source, "vae"))
        channels = vae.config.latent_channels
        unet = UNet2DConditionModel.from_config({"in_channels": channels, **start_config(settings)})
        method = find_method(settings.method)
        text_encoder = CLIPTextModel(CLIPTextConfig(**part_config(source, "text_encoder")))
        decoder = AutoencoderTiny(latent_channels=channels) if settings.decoder else vae
        network = small.untrained()
        networks = method.build(unet, vae)
    size = unet.config.sample_size
    side = (size if isinstance(size, int) else min(size)) * vae_scale_factor(vae)
    sight = small.sight(decoder, network, small.shown_px(settings.estimator_px, side))
    return _Parts(networks, text_encoder, sight, method, side)


def _scheduler(source: str) -> DDIMScheduler:
    """The noise schedule of a folder; of a hub id or nothing that of Stable Diffusion, without asking the hub."""
    path = Path(source) / "scheduler" / "scheduler_config.json"
    known = json.loads(path.read_text()) if source and path.is_file() else pocket.SCHEDULER
    return DDIMScheduler.from_config(known)
