"""Variants of a model: small changes of its UNet that lie beside it, each with the settings that it draws with.

    MODEL/variants/variants.json        {"default": NAME, "variants": {NAME: settings}}
    MODEL/variants/NAME.safetensors     the change, as a LoRA
    MODEL/tiny_decoder/                 the small decoder, if there is one

"full" is the UNet as it is. Whatever trains or reproduces begins with that one; a variant is only drawn with.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from humansd.core.files import write_json
from humansd.inference.sampling import SamplingConfig
from humansd.models.errors import ModelError

if TYPE_CHECKING:  # seconds, which a mistyped name need not wait for
    from humansd.models.tiny_decoder import TinyDecoder
    from humansd.pipelines.humansd import HumanSDPipeline

TINY = "tiny_decoder"
FULL = "full"
FOLDER, FILE = "variants", "variants.json"
DECODERS = ("", FULL, "tiny")
LARGEST = 100_000  # bytes of that file
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Variant:
    """How a variant draws where the caller does not say.

    num_inference_steps, guidance_scale, pose_guidance_scale: as of `SamplingConfig`. scheduler: one of its names; "":
    the model's own. decoder: full | tiny.

    Raises:
        ValueError: a value out of its range.
    """

    num_inference_steps: int
    guidance_scale: float = 1.0
    pose_guidance_scale: float = 1.0
    scheduler: str = ""
    decoder: str = FULL

    def __post_init__(self) -> None:
        scales = self.guidance_scale, self.pose_guidance_scale
        SamplingConfig(self.num_inference_steps, *scales, scheduler=self.scheduler)
        if self.decoder not in DECODERS[1:]:
            raise ValueError(f"decoder is {self.decoder!r}; choose one of {', '.join(DECODERS[1:])}")


@dataclass(frozen=True)
class Variants:
    """Those of a folder. default: the one that draws where none is named."""

    default: str = FULL
    named: dict[str, Variant] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """What is put on a pipeline. name: of the variant. settings: None for "full". tiny: whether the small decoder."""

    folder: Path | None = None
    name: str = FULL
    settings: Variant | None = None
    tiny: bool = False

    @property
    def plain(self) -> bool:
        """Whether the model stays as it is."""
        return self.settings is None and not self.tiny

    def apply(self, pipeline: HumanSDPipeline) -> None:
        """Adds the change to the UNet's weights, which stay as many, and puts the settings in the model's place.

        Raises:
            ValueError: a change that does not fit the UNet, or a decoder that does not fit the VAE.
        """
        if self.folder is None or self.plain:
            return
        if self.settings is not None:
            _add(pipeline, self.folder / FOLDER / f"{self.name}.safetensors")
            own = {"text": self.settings.guidance_scale, "pose": self.settings.pose_guidance_scale}
            pipeline.register_to_config(guidance=own, num_inference_steps=self.settings.num_inference_steps)
            if self.settings.scheduler:
                from humansd.pipelines.schedulers import make_scheduler

                pipeline.scheduler = make_scheduler(self.settings.scheduler, pipeline.scheduler)
            pipeline.variant = self.name
        if self.tiny:
            pipeline.tiny_decoder = _decoder(pipeline, self.folder)


def read_variants(folder: Path) -> Variants:
    """Those of a model's folder; none where it has no list.

    Raises:
        ModelError: the list is damaged, or names what is not there.
    """
    path = folder / FOLDER / FILE
    if not path.is_file():
        return Variants()
    try:
        values = json.loads(path.read_text()) if path.stat().st_size <= LARGEST else None
        found = _read(values)
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: damaged ({error}); copy the folder again, or use --variant {FULL}") from None
    for name in found.named:
        if not (folder / FOLDER / f"{name}.safetensors").is_file():
            raise ModelError(f"{path}: names {name}, and {name}.safetensors is missing; copy the folder again")
    return found


def _read(values: Any) -> Variants:
    if not isinstance(values, dict) or not isinstance(values.get("variants"), dict):
        raise ValueError("no list of variants")
    named = {str(name): Variant(**one) for name, one in values["variants"].items()}
    default = values.get("default", FULL)
    strange = [name for name in named if not _NAME.fullmatch(name) or name == FULL]
    if strange or (default != FULL and default not in named):
        raise ValueError(f"{strange[0] if strange else default!r} is no variant's name")
    return Variants(default, named)


def choose_variant(source: str, variant: str = "", decoder: str = "", *, alone: bool = False) -> Choice:
    """What `variant` and `decoder`, "" for the model's own, mean for the model `source`, a folder or a hub id.

    alone: the model draws with another method's network, which knows no variant.

    Raises:
        ModelError: one that the model does not have; the message lists those it has.
        ValueError: another decoder than `DECODERS`.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decoder is {decoder!r}; choose one of {', '.join(DECODERS[1:])}")
    folder = Path(source).expanduser()
    if not folder.is_dir():
        if variant not in ("", FULL) or decoder == "tiny":
            raise ModelError(f"model {source!r}: variants and decoders are read of folders alone; download it first")
        return Choice()
    known = Variants() if alone else read_variants(folder)
    name = variant or known.default
    if name != FULL and name not in known.named:
        have = ", ".join([FULL, *known.named])
        raise ModelError(f"model {folder.name!r} has no variant {variant!r}; choose one of {have}")
    settings = known.named.get(name)
    wanted = decoder or (FULL if settings is None else settings.decoder)
    if wanted == "tiny" and not (folder / TINY / "config.json").is_file():
        raise ModelError(f"model {folder.name!r} has no small decoder; use --decoder {FULL}")
    return Choice(folder, name, settings, wanted == "tiny")


def write_variant(folder: Path, name: str, lora: Path, settings: Variant, *, default: bool = False) -> Path:
    """Puts a change into a model's folder, in fp16, and returns its file. One of that name is replaced.

    lora: a file, or the folder that a distillation exported. default: it draws where no variant is named.

    Raises:
        ValueError: a name that is no word of small letters, digits and hyphens, or no LoRA of a UNet.
    """
    from humansd.models.digests import LIST, write_digests
    from humansd.models.lora import read_unet_lora, write_unet_lora

    if not _NAME.fullmatch(name) or name == FULL:
        raise ValueError(f"name is {name!r}; use small letters, digits and hyphens, and not {FULL!r}")
    known = read_variants(folder)
    file = folder / FOLDER / f"{name}.safetensors"
    file.parent.mkdir(exist_ok=True)
    write_unet_lora(read_unet_lora(lora), file)
    named = {key: asdict(one) for key, one in {**known.named, name: settings}.items()}
    write_json(folder / FOLDER / FILE, {"default": name if default else known.default, "variants": named})
    if (folder / LIST).exists():
        write_digests(folder)
    return file


def _add(pipeline: HumanSDPipeline, file: Path) -> None:
    try:
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=FOLDER, use_safetensors=True)
        pipeline.fuse_lora(components=["unet"])
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{file}: does not fit this model or cannot be read ({reason}); copy it again") from error
    pipeline.unload_lora_weights()


def _decoder(pipeline: HumanSDPipeline, folder: Path) -> TinyDecoder:
    from humansd.models.loading import load_part
    from humansd.models.tiny_decoder import TinyDecoder

    found: TinyDecoder = load_part(TinyDecoder, folder, TINY).eval()
    channels, wanted = found.config.latent_channels, pipeline.vae.config.latent_channels
    factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    if channels != wanted or found.scale_factor != factor:
        raise ModelError(
            f"{folder / TINY}: is for latents of {channels} channels and factor {found.scale_factor}, the VAE has "
            f"{wanted} and {factor}; use --decoder {FULL}"
        )
    return found
