"""Who draws: threads of this process, processes of one device each, or replicas of Ray Serve."""

from __future__ import annotations

from collections.abc import Sequence

from humansd.studio.process import DrawingProcess
from humansd.studio.remote import remote_models
from humansd.studio.served import ServedModel, load_served
from humansd.studio.settings import StudioSettings


def load_workers(settings: StudioSettings, processes: Sequence[DrawingProcess] = ()) -> list[dict[str, ServedModel]]:
    """The models of each worker. One thread uses each worker.

    processes: that were started already, one a device.

    Raises:
        ValueError, OSError: as of `load_served`; RuntimeError where a process or Ray does not start.
    """
    if settings.ray:
        from humansd.studio.ray_serve import ray_workers

        return ray_workers(settings)
    if processes:
        return [remote_models(one.about(), one.draw) for one in processes]
    return [load_served(settings, device) for device in settings.devices]
