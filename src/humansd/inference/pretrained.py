"""Models by name: the one that ships, a folder, or a hub id."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, T2IAdapter
from diffusers.utils import logging
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as transformers_logging

from humansd.checkpoints.pose_networks import read_pose_network
from humansd.inference.variants import choose_variant
from humansd.methods.dual_adapter import load_adapters
from humansd.methods.table import find_method
from humansd.models.errors import ModelError
from humansd.models.estimators import usable_device
from humansd.models.loading import from_hub, load_part
from humansd.models.names import SHIPPED, check_model_name, check_weights_file, weights_folder
from humansd.models.precision import can_compile, inference_dtype
from humansd.pipelines.folders import class_name
from humansd.pipelines.humansd import HumanSDPipeline


def load_pipeline(
    model: str,
    device: str | None = None,
    *,
    plain: bool = False,
    dtype: str = "fp32",
    compile_unet: bool = False,
    method: str = "",
    pose_network: str = "",
    variant: str = "",
    decoder: str = "",
) -> HumanSDPipeline:
    """The pipeline of a shipped model's name, a diffusers folder or a hub id.

    Args:
        device: default ("auto") the GPU if there is one, else the CPU.
        plain: a plain Stable Diffusion is accepted too; it draws as ever and ignores poses.
        method: a name of `methods.table.METHODS`, for a plain Stable Diffusion with `pose_network`; "": as the model
            says.
        variant: a name of the model's own variants (`inference.variants`), "full" for the UNet as it is; "": the
            model's default. decoder: "tiny" or "full"; "": as the variant says.
        pose_network: folder or hub id of the method's network, such as a published ControlNet, or a file in its
            authors' layout (`checkpoints.pose_networks`).
        dtype: as of `models.precision.inference_dtype`. compile_unet: by torch.compile, where the device has a
            compiler; the first image then takes a minute or two longer.

    Raises:
        ModelError: a model that is not there or cannot be loaded.
        ValueError: what `HumanSDPipeline` refuses, an unknown dtype, or a device that is not there.
    """
    source = str(weights_folder(model)) if model in SHIPPED else model
    if model not in SHIPPED:
        check_model_name(model)
    where = usable_device(device or "auto")
    precision = inference_dtype(dtype, where)
    chosen = choose_variant(source, variant, decoder, alone=bool(method or pose_network))
    if precision == torch.float16 and where.type == "cpu":
        warnings.warn(
            "fp16 on a CPU is some fifty times slower than fp32; leave dtype out, or use bf16",
            UserWarning,
            stacklevel=2,
        )
    logging.disable_progress_bar()  # of the components; downloads keep theirs
    transformers_logging.disable_progress_bar()
    try:
        kind = class_name(from_hub(DiffusionPipeline.load_config, source)) if plain else None
        first = precision if chosen.plain else torch.float32  # a change is added before anything is rounded
        if method or pose_network:
            pipeline = _with_method(source, method, pose_network, first)
        elif kind == "StableDiffusionPipeline":
            pipeline = HumanSDPipeline.from_base(source, method="sd", dtype=first)
        else:
            pipeline = HumanSDPipeline.from_pretrained(source, dtype=first)
        chosen.apply(pipeline)
        _round(pipeline, first, precision)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"model {model!r}: cannot be loaded ({reason})") from error
    finally:
        logging.enable_progress_bar()
        transformers_logging.enable_progress_bar()
    pipeline.to(where)
    if compile_unet and can_compile(where):
        pipeline.unet.compile()
    return pipeline


def _round(pipeline: HumanSDPipeline, was: torch.dtype, dtype: torch.dtype) -> None:
    """Brings what was loaded in one precision into another."""
    networks = [one for one in pipeline.components.values() if isinstance(one, nn.Module)]
    for network in networks if was != dtype else []:
        nn.Module.to(network, dtype=dtype)  # diffusers' own warns of what none of these has


def _with_method(source: str, method: str, pose_network: str, dtype: torch.dtype) -> HumanSDPipeline:
    """A plain Stable Diffusion with a method of another's weights."""
    network = find_method(method).network
    if not pose_network and network is None and method != "sd":
        raise ValueError(f"method {method!r}: its weights are part of a model; name a folder that was made with it")
    if (network is None) != (not pose_network):
        needs = "takes no pose_network" if network is None else "needs --pose-network FOLDER_OR_ID_OR_FILE, its weights"
        raise ValueError(f"method {method!r} {needs}")
    if network is None:
        return HumanSDPipeline.from_base(source, method=method, dtype=dtype)
    try:
        if Path(pose_network).is_file():
            loaded = nn.Module.to(read_pose_network(Path(pose_network), method), dtype)
        elif network is T2IAdapter:
            loaded = load_adapters(pose_network, dtype, find_method(method))
        else:
            loaded = load_part(network, pose_network, "", dtype=dtype)
    except OSError as error:  # such as a hub that does not answer; not to be taken for one of the base
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"pose_network {pose_network!r}: cannot be loaded ({reason})") from error
    return HumanSDPipeline.from_base(source, method=method, pose_network=loaded, dtype=dtype)


def add_weights(
    pipeline: HumanSDPipeline, loras: Sequence[tuple[str, float]] = (), embeddings: Sequence[str] = ()
) -> None:
    """Loads LoRAs (file, folder or hub id, with its scale) and textual inversions (files) into `pipeline`.

    Raises:
        ValueError: one that is not safetensors, is not there, or does not fit the model; the message names it.
    """
    names = []
    for number, (source, _) in enumerate(loras):
        check_weights_file(source, "LoRA")
        names.append(f"lora{number}")
        with _named(source, "LoRA"):
            pipeline.load_lora_weights(source, adapter_name=names[-1], use_safetensors=True)
    if names:
        pipeline.set_adapters(names, [scale for _, scale in loras])
    for source in embeddings:
        check_weights_file(source, "textual inversion")
        with _named(source, "textual inversion"):
            pipeline.load_textual_inversion(source, use_safetensors=True)


@contextmanager
def _named(source: str, what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{what} {source}: does not fit this model or cannot be read ({reason})") from error
