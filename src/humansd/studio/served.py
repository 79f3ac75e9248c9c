"""The models of a studio by their names, each with the methods that it was loaded with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from humansd.studio.drawing import Model
from humansd.studio.errors import StudioError
from humansd.studio.settings import StudioSettings

Loader = Callable[[str, str, str, str, str, str], Model]


class ServedModel:
    """What clients know as one model. Its first method is the default."""

    def __init__(self, name: str, models: Iterable[Model]) -> None:
        """ValueError where two of `models` have one method."""
        self.name = name
        self.methods: dict[str, Model] = {}
        for model in models:
            if model.about.method in self.methods:
                raise ValueError(
                    f"model {name!r} is there twice with the method {model.about.method!r}; give one of them another "
                    "name: --model NAME=FOLDER"
                )
            self.methods[model.about.method] = model

    def by(self, method: str | None) -> Model:
        """The model that draws by a method; None: the default. StudioError for one that is not there."""
        if method is None:
            return next(iter(self.methods.values()))
        if method not in self.methods:
            raise StudioError(
                f"method: {self.name} is conditioned by {' or '.join(map(repr, self.methods))}, not {method[:40]!r}; "
                "choose of /v1/models, or leave it out"
            )
        return self.methods[method]


def load_served(settings: StudioSettings, device: str, loader: Loader | None = None) -> dict[str, ServedModel]:
    """Every model on a device. Errors as of `bridge.load_model` and `ServedModel`."""
    if loader is None:
        from humansd.studio.bridge import load_model  # seconds, which only a place that draws needs

        loader = load_model
    loaded = [loader(name, source, device, settings.dtype, "", "") for name, source in settings.models]
    sources = dict(reversed(settings.models))  # the first of a name
    for name, method, network in settings.networks:
        loaded.append(loader(name, sources[name], device, settings.dtype, method, network))
    return grouped(loaded)


def grouped(models: Iterable[Model]) -> dict[str, ServedModel]:
    """By name, in the order in which they come. ValueError as of `ServedModel`."""
    found: dict[str, list[Model]] = {}
    for model in models:
        found.setdefault(model.about.name, []).append(model)
    return {name: ServedModel(name, own) for name, own in found.items()}


def every(models: Mapping[str, ServedModel]) -> list[Model]:
    """Each name with each method."""
    return [model for served in models.values() for model in served.methods.values()]
