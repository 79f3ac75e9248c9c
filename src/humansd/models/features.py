"""What images are compared by: feature extractors behind one protocol, and the table of those there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, CLIPModel
from transformers.utils import logging

from humansd.core.arrays import ImageArray
from humansd.models.estimators import usable_device
from humansd.models.inception import PUBLISHED_FILE, PUBLISHED_SHA256, Inception
from humansd.models.letterbox import squeeze
from humansd.models.loading import from_hub, load_part

BATCH = 32
SHIPPED = Path(__file__).parents[1] / "weights" / "pocket"


class FeatureExtractor(Protocol):
    """Turns images into vectors."""

    @property
    def name(self) -> str:
        """What the features are called in a table."""

    @property
    def is_fid(self) -> bool:
        """Whether distances of these features are FID and KID: Inception-v3 with the published weights alone."""

    @property
    def width(self) -> int:
        """Numbers an image."""

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """The networks that run."""

    def extract(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        """The features of images.

        Args:
            images: uint8 RGB (height, width, 3), of any sizes; no image gives no row.

        Returns:
            (n, width). An image's features do not depend on those beside it, but for rounding.

        Raises:
            ValueError: an image of another type or shape; the message names its number.
        """


class NetworkFeatures:
    """`FeatureExtractor` around one network: images prepared, described in batches of one size."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        prepare: Callable[[Sequence[ImageArray]], Tensor],
        describe: Callable[[Tensor], Tensor],
        device: torch.device,
        *,
        is_fid: bool = False,
    ) -> None:
        """prepare: n images of one size -> what the network reads; describe: that, on `device` -> (n, width).

        Raises:
            ValueError: the network describes the same image differently each time.
        """
        self.name, self.is_fid, self._device = name, is_fid, device
        self._network, self._prepare, self._describe = network.eval().to(device), prepare, describe
        probe = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)]
        first, second = self._batch(probe), self._batch(probe)
        if not np.allclose(first, second, rtol=1e-3, atol=1e-4 * np.abs(first).max()):
            raise ValueError(
                f"features {name!r}: the network gives other numbers each time, as one that masks its input does; take "
                "one made for whole images"
            )
        self.width = first.shape[1]

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """See `FeatureExtractor.networks`."""
        return (self._network,)

    def extract(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        """See `FeatureExtractor.extract`."""
        check_images(images)
        out = np.zeros((len(images), self.width), np.float32)
        for shape in sorted({image.shape for image in images}):
            rows = [i for i, image in enumerate(images) if image.shape == shape]
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                out[some] = self._batch([images[i] for i in some])
        return out

    @torch.inference_mode()
    def _batch(self, images: Sequence[ImageArray]) -> NDArray[np.float32]:
        return self._describe(self._prepare(images).to(self._device)).float().cpu().numpy()


def _inception(source: str, device: torch.device) -> FeatureExtractor:
    """The 2048 numbers before Inception-v3's last layer (Heusel et al. 2017); FID where its weights are the published.

    Prepared as pytorch-fid does; TensorFlow's own resizing differs a little.
    """
    remedy = (
        f"download pytorch-fid's {PUBLISHED_FILE}, run `humansd convert inception FILE --out DIR`, give inception=DIR"
    )
    if not source:
        raise ValueError(f"features 'inception' ship without weights; {remedy}")
    if not (Path(source) / "model.safetensors").exists():
        raise FileNotFoundError(f"features 'inception': {source} has no model.safetensors; {remedy}")
    network = Inception.from_pretrained(Path(source))
    is_fid = network.config.source_sha256 == PUBLISHED_SHA256

    def prepare(images: Sequence[ImageArray]) -> Tensor:
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255

    name = "inception-v3" if is_fid else "unpublished inception-v3"
    return NetworkFeatures(name, network, prepare, network, device, is_fid=is_fid)


def _pocket(source: str, device: torch.device) -> FeatureExtractor:
    """The image tower of a pocket folder, pooled before its projection.

    The projection keeps what captions speak of; a distance of images should see the rest too. Other sizes are resized
    (areas are averaged), and other shapes made square, as FID's network has it (Heusel et al. 2017): bars beside both
    sides of a comparison would halve their distance.
    """
    user, place = "features 'pocket'", clip_place(source)
    clip = load_clip(place, user)
    processor = load_processor(place, user)
    if [*processor.image_mean, *processor.image_std] != [0.5] * 6:
        raise ValueError(f"{user}: {place} is no pocket tower, its images are not in [-1, 1]; use transformers={place}")
    side = int(clip.config.vision_config.image_size)
    describe = _pooled(clip.vision_model, True)
    return NetworkFeatures("pocket image tower", clip.vision_model, lambda some: squeeze(some, side), describe, device)


def _transformers(source: str, device: torch.device) -> FeatureExtractor:
    """Any vision model with its own image processor: the pooled output, or the mean over its places."""
    user = "features 'transformers'"
    if not source:
        raise ValueError(f"{user} need the folder or hub id of a vision model; give transformers=SOURCE")
    model, lacking = _load(AutoModel, source, user)
    # Classifiers are stored without the pooler that AutoModel adds, with random weights.
    has_pooler = not any(key.startswith("pooler.") for key in lacking)
    _refuse_gaps({key for key in lacking if not key.startswith("pooler.")}, source, user)
    model = getattr(model, "vision_model", model)  # the image half of a CLIP
    if model.main_input_name != "pixel_values":
        raise ValueError(f"{user}: {source} reads {model.main_input_name}, not images; name a vision model")
    processor = load_processor(source, user)
    name = f"transformers:{Path(source).resolve().name if Path(source).is_dir() else source}"
    return NetworkFeatures(name, model, lambda some: pixels(processor, some), _pooled(model, has_pooler), device)


# name -> maker of (source: folder or hub id, "" for what ships with the package; device).
EXTRACTORS: dict[str, Callable[[str, torch.device], FeatureExtractor]] = {
    "pocket": _pocket,  # ships; knows Atelier
    "inception": _inception,  # FID and KID, with the user's weights
    "transformers": _transformers,  # any vision model
}


def load_extractor(name: str, source: str = "", device: torch.device | str = "cpu") -> FeatureExtractor:
    """The extractor `name` with the weights of `source`, a folder or hub id; "" is what ships with the package.

    Raises:
        ValueError: no such extractor or device, one that ships no weights and was given no source, or a source of
            another kind.
        OSError: the source holds no weights in safetensors, or not all of them.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"features {name!r} are not known; choose among {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name](source, usable_device(device))


def clip_place(source: str) -> str:
    """Where a CLIP lies: the folder `clip` of a pocket folder ("" is the one that ships), else `source` itself."""
    inside = (Path(source) if source else SHIPPED) / "clip"
    return str(inside) if inside.is_dir() or not source else source


def load_clip(place: str, user: str) -> CLIPModel:
    """transformers' CLIP of a folder or hub id, fp32. `user` begins the message of an error.

    Raises:
        ValueError: another kind of model. OSError: none there, none in safetensors, or not all of its weights.
    """
    with plain_errors(place, user):
        kind = from_hub(AutoConfig.from_pretrained, place).model_type
    if kind != "clip":
        raise ValueError(f"{user}: {place} is a {kind}; a CLIP with both towers is needed")
    clip, lacking = _load(CLIPModel, place, user)
    _refuse_gaps(lacking, place, user)
    return clip


def load_processor(place: str, user: str) -> Any:
    """What prepares images for the model of a folder or hub id, with Pillow; OSError where there is none."""
    with plain_errors(place, user):
        return from_hub(AutoImageProcessor.from_pretrained, place, backend="pil")


def pixels(processor: Any, images: Sequence[ImageArray]) -> Tensor:
    """Images as the network of `processor` reads them, float32 (n, 3, side, side)."""
    # Said outright, because an image of 3 rows could be read either way.
    values = processor(images=list(images), return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    return torch.as_tensor(values)


def check_images(images: Sequence[ImageArray]) -> None:
    """ValueError, with its number, for an image that is not uint8 RGB (height, width, 3)."""
    for number, image in enumerate(images):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"image {number} is {image.dtype} {image.shape}; uint8 RGB (height, width, 3) is needed")


@contextmanager
def plain_errors(place: str, user: str) -> Iterator[None]:
    """Makes one line, an OSError, of whatever transformers says when it cannot load from `place`."""
    if not Path(place).is_dir() and (place.count("/") > 1 or place.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"{user}: {place!r} is no folder and no hub id (owner/name)")
    logging.disable_progress_bar()  # of the parts; downloads keep theirs
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its table of missing weights; they are dealt with here
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(
            f"{user}: {place} cannot be loaded ({reason}); it needs config.json, preprocessor_config.json and "
            "model.safetensors, and a CLIP its tokenizer too"
        ) from error
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def _load(kind: Any, place: str, user: str) -> tuple[Any, set[str]]:
    """The model and the names of weights that are not in `place`, hence random."""
    with plain_errors(place, user):
        model, loading = load_part(kind, place, output_loading_info=True)
    return model, set(loading["missing_keys"])


def _refuse_gaps(lacking: set[str], place: str, user: str) -> None:
    if lacking:
        some = ", ".join(sorted(lacking)[:3])
        raise OSError(f"{user}: {place} lacks {len(lacking)} weights ({some}); name a model saved whole")


def _pooled(model: Any, has_pooler: bool) -> Callable[[Tensor], Tensor]:
    def describe(values: Tensor) -> Tensor:
        output = model(pixel_values=values)
        pooled = getattr(output, "pooler_output", None) if has_pooler else None
        if pooled is None:
            places = output.last_hidden_state  # (n, places, width), or (n, width, h, w) of a convolutional network
            pooled = places.mean(dim=(2, 3)) if places.ndim == 4 else places.mean(dim=1)
        return torch.as_tensor(pooled).flatten(1)

    return describe
