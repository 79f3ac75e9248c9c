"""How models and files of weights are named; apart, so that a mistyped name is answered at once."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from humansd.models.errors import ModelError

SHIPPED = ("pocket",)


def weights_folder(name: str) -> Path:
    """The folder of the shipped model `name`. Raises ModelError where this install has none."""
    folder = Path(str(resources.files("humansd"))) / "weights" / name
    if not (folder / "model_index.json").is_file():
        raise ModelError(
            f"model {name!r}: this install holds no weights in {folder}; install a release, or make them "
            "with `make pocket` and copy them there"
        )
    return folder


def check_model_name(model: str) -> None:
    """ModelError: a folder must hold a pipeline; what cannot be a hub id either is a mistyped path, or a file."""
    path = Path(model).expanduser()
    if path.is_file():
        raise ModelError(
            f"model {model!r}: a file, and models are folders; make one of it: humansd convert checkpoint {model} "
            "--out FOLDER"
        )
    if path.is_dir() and not (path / "model_index.json").is_file():
        raise ModelError(f"model {model!r}: the folder has no model_index.json; name a diffusers pipeline folder")
    if not path.is_dir() and (model.count("/") != 1 or model.startswith((".", "/", "~"))):
        raise ModelError(
            f"model {model!r}: no such folder; use {', '.join(SHIPPED)}, a folder, or a hub id (owner/name)"
        )


def check_weights_file(source: str, what: str) -> None:
    """ValueError for a pickled file, FileNotFoundError where a named one is not there. what: "LoRA" and the like."""
    path = Path(source)
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        raise ValueError(f"{what} {source}: a pickled file, which humansd does not read; get the .safetensors of it")
    if path.suffix == ".safetensors" and not path.is_file():
        raise FileNotFoundError(f"{what} {source}: no such file")
