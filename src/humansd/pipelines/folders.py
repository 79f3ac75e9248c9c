"""HumanSD as a folder: loaded from it, begun from a plain Stable Diffusion's, written to it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from diffusers import AutoencoderKL, UNet2DConditionModel

from humansd.core.files import write_json, write_text
from humansd.methods.table import find_method
from humansd.models.digests import check_digests, write_digests
from humansd.models.errors import ModelError
from humansd.models.loading import HubError, check_sizes, from_hub, load_part, single_precision
from humansd.pipelines.card import write_card

_LONGEST = 600  # characters of a library's message
LIBRARIES = ("diffusers", "transformers")
WEIGHTS = ("vae", "text_encoder", "unet", "image_encoder", "pose_network")
_HUB_OPTIONS = ("revision", "cache_dir", "token", "local_files_only", "force_download", "proxies")
_PART_OPTIONS = ("dtype", "torch_dtype", "variant", "use_safetensors")
_SETTINGS = (
    "tokenizer",
    "scheduler",
    "feature_extractor",
    "draw_style",
    "guidance",
    "dropped_pose",
    "num_inference_steps",
    "method",
)
# Lets `DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True)` find the class; this package never runs it.
LOADER = "humansd_pipeline"
_LOADER_TEXT = '''"""DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True) loads it: pip install humansd"""

from humansd.pipelines import HumanSDImg2ImgPipeline, HumanSDInpaintPipeline, HumanSDPipeline  # noqa: F401
'''
_OTHERS = {
    "StableDiffusionInpaintPipeline": "a Stable Diffusion for inpainting",
    "StableDiffusionDepth2ImgPipeline": "a Stable Diffusion that reads depth",
    "StableDiffusionInstructPix2PixPipeline": "an InstructPix2Pix",
    "StableDiffusionUpscalePipeline": "a Stable Diffusion for upscaling",
    "StableDiffusionXLPipeline": "a Stable Diffusion XL",
}


def class_name(index: Mapping[str, Any]) -> str:
    """The pipeline's class in a model_index.json; diffusers writes a list where the folder brings a loader."""
    name = index.get("_class_name") or ""
    return str(name[-1]) if isinstance(name, list) and name else str(name)


def check_index(index: Any, source: str) -> None:
    """Whether a model_index.json names a pipeline of ours, or plain Stable Diffusion, made of known libraries' parts.

    Raises:
        ValueError: it is of another shape, another kind of pipeline, or names a library that is not to be imported.
    """
    if not isinstance(index, dict) or not class_name(index):
        raise ValueError(f"{source}: not a pipeline's model_index.json (no _class_name); copy the folder again")
    kind = class_name(index)
    if kind in _OTHERS:
        raise ValueError(
            f"{source}: _class_name is {kind}, {_OTHERS[kind]}, whose UNet does not read a skeleton; name a HumanSD or "
            "a plain Stable Diffusion 1 or 2"
        )
    for name, value in index.items():
        if name.startswith("_") or name in _SETTINGS[3:] or not isinstance(value, list):
            continue
        if len(value) != 2 or not all(one is None or isinstance(one, str) for one in value):
            raise ValueError(f"{source}: {name} is {value!r}, and a component is [library, class]; copy the file again")
        if name == "pose_network":
            check_network(index, source)
        elif name == "unet" and value == _own_unet(index):
            continue
        elif value[0] not in (None, *LIBRARIES) and name != "safety_checker":
            raise ValueError(
                f"{source}: {name} comes from the library {value[0]!r}; only {', '.join(LIBRARIES)} are read. Do not "
                "use this folder unless you know who made it"
            )


def _own_unet(index: Mapping[str, Any]) -> list[str]:
    """[library, class] of the UNet of an index's method."""
    kind = find_method(str(index.get("method", "humansd"))).unet_class
    return [kind.__module__, kind.__name__]


def check_network(index: Mapping[str, Any], source: str) -> None:
    """Whether the pose_network that a model_index.json names is its method's; ValueError where it is another class."""
    named = index["pose_network"][1]
    network = find_method(str(index.get("method", "humansd"))).network
    wanted = None if network is None else network.__name__
    if named != wanted:
        raise ValueError(
            f"{source}: pose_network is a {named}, and the method {index.get('method', 'humansd')!r} has "
            f"{'none' if wanted is None else f'a {wanted}'}; copy the file again"
        )


class FolderMixin:
    """Loading and saving of `HumanSDPipeline`."""

    @classmethod
    def _dict_from_json_file(cls, json_file: Any, *args: Any, **kwargs: Any) -> Any:
        """diffusers reads model_index.json through this; a list as class name would make it run the folder's loader."""
        values = super()._dict_from_json_file(json_file, *args, **kwargs)  # type: ignore[misc]
        if Path(str(json_file)).name == "model_index.json":
            check_index(values, str(json_file))
            values["_class_name"] = class_name(values)
        return values

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Self:
        """Load a folder or hub id. Weights are safetensors, computed in fp32 unless `dtype` is set.

        Raises:
            ValueError: `use_safetensors=False`.
            ModelError: a ValueError too; a plain Stable Diffusion folder (see `from_base`), another kind of model,
                components that do not fit each other, files that are missing, damaged or changed.
            HubError: the hub does not answer.
        """
        _check_safetensors(kwargs)
        source = pretrained_model_name_or_path
        with _as_model_error(source):
            return cls._load(source, kwargs)

    @classmethod
    def _load(cls, source: Any, kwargs: dict[str, Any]) -> Self:
        options = single_precision(kwargs)  # transformers would keep the file's fp16
        if Path(str(source)).is_dir():
            check_digests(Path(str(source)))
            if "scheduler" not in options:
                check_sizes(Path(str(source)) / "scheduler" / "scheduler_config.json")
        hub = {name: options[name] for name in _HUB_OPTIONS if name in options}
        if options.keys() <= {*_HUB_OPTIONS, *_PART_OPTIONS, *WEIGHTS, *_SETTINGS}:
            index = from_hub(cls.load_config, source, **hub)  # type: ignore[attr-defined]
            shared = {name: options[name] for name in (*_HUB_OPTIONS, *_PART_OPTIONS) if name in options}
            for name in WEIGHTS:
                if name not in options and (index.get(name) or [None])[0] is not None:
                    kind = _class_of(index, source, name)
                    options[name] = load_part(kind, source, name, **shared)
        return from_hub(super().from_pretrained, source, **options)  # type: ignore[misc, no-any-return]

    @classmethod
    def from_base(
        cls,
        base: str | os.PathLike[str],
        *,
        draw_style: dict[str, Any] | None = None,
        method: str = "humansd",
        **kwargs: Any,
    ) -> Self:
        """A plain Stable Diffusion folder or hub id with the networks of a method at step 0: the start of fine-tuning.

        Until it is trained it ignores the pose and draws exactly what the base draws.

        Args:
            base: folder with unet, vae, text_encoder, tokenizer and scheduler.
            draw_style, method: as in the constructor.
            kwargs: `pose_network`, for one that has learnt already; and those of diffusers' `from_pretrained` (dtype,
                revision, variant, cache_dir, token ...).

        Raises:
            ValueError: the UNet is not a plain one (its input channels differ from the latent's).
        """
        _check_safetensors(kwargs)
        kwargs = single_precision(kwargs)
        with _as_model_error(base):
            options = {name: value for name, value in kwargs.items() if name != "pose_network"}
            vae = load_part(AutoencoderKL, base, "vae", **options)
            unet = load_part(UNet2DConditionModel, base, "unet", **options)
        channels = vae.config.latent_channels
        if unet.config.in_channels != channels:
            raise ValueError(
                f"{base}: unet.in_channels is {unet.config.in_channels}, a plain UNet for this VAE has "
                f"{channels}; load a HumanSD folder with from_pretrained"
            )
        made = find_method(method).build(unet, vae)
        own = {} if made.pose_network is None else {"pose_network": kwargs.pop("pose_network", made.pose_network)}
        return cls.from_pretrained(base, vae=vae, unet=made.unet, draw_style=draw_style, method=method, **own, **kwargs)

    @classmethod
    def from_single_file(cls, pretrained_model_link_or_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """A HumanSD of one .ckpt or .safetensors file with the original code's names, in fp32 unless `dtype` is set.

        Nothing is fetched from a hub and no pickled code runs; `humansd convert checkpoint` writes the same folder.

        Args:
            kwargs: `dtype`, and `prediction`, `ema`, `tokenizer`, `kind` of `pipelines.single_file.read_pipeline`; a
                HumanSD with Stable Diffusion 1's text needs `kind="humansd"`, as an InstructPix2Pix looks alike.

        Raises:
            OSError, ValueError: as `pipelines.single_file.read_pipeline`.
        """
        from humansd.pipelines.single_file import read_pipeline

        dtype = single_precision(kwargs)
        precision = dtype.pop("dtype", None) or dtype.pop("torch_dtype")
        found = read_pipeline(Path(pretrained_model_link_or_path), **dtype)
        return cls.from_pipe(found, dtype=precision)  # type: ignore[attr-defined, no-any-return]

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Writes the folder, with the few lines by which `DiffusionPipeline.from_pretrained(FOLDER,
        trust_remote_code=True)` finds this class, a model card where there is none, and the list of its files by which
        a damaged one is known."""
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
        folder = Path(save_directory)
        index = json.loads((folder / "model_index.json").read_text())
        write_json(folder / "model_index.json", {**index, "_class_name": [LOADER, class_name(index)]})
        write_text(folder / f"{LOADER}.py", _LOADER_TEXT)
        write_card(self, folder)
        write_digests(folder)


@contextlib.contextmanager
def _as_model_error(source: Any) -> Iterator[None]:
    """Whatever the libraries say of a folder that they cannot load, in one line that names it."""
    try:
        yield
    except (ModelError, HubError):
        raise
    except Exception as error:  # a damaged folder can raise anything
        text = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, ValueError | OSError):
            text = f"{type(error).__name__}: {text}"
        named = text if str(source) in text else f"{source}: {text}"
        if isinstance(error, ValueError) and len(named) < _LONGEST:
            raise ModelError(named) from error
        remedy = "copy the whole folder again" if Path(str(source)).is_dir() else "name a folder, or another hub id"
        raise ModelError(f"{source}: cannot be loaded ({text[:_LONGEST].rstrip('.')}); {remedy}") from error


def _class_of(index: Mapping[str, Any], source: Any, name: str) -> Any:
    """The class of a component; the method's own, as `check_index` has compared them."""
    if name == "pose_network":
        return find_method(str(index.get("method", "humansd"))).network
    if name == "unet" and index[name] == _own_unet(index):
        return find_method(str(index.get("method", "humansd"))).unet_class
    library, kind = index[name]
    found = getattr(importlib.import_module(library), kind, None)
    if found is None:
        raise ValueError(
            f"{source}: model_index.json says that {name} is a {kind}, which this {library} does not have; install a "
            "newer one, or mend the file"
        )
    return found


def _check_safetensors(kwargs: dict[str, Any]) -> None:
    if kwargs.setdefault("use_safetensors", True) is not True:
        raise ValueError(
            "use_safetensors must stay True; humansd reads no pickled weights, choose a folder with safetensors"
        )
