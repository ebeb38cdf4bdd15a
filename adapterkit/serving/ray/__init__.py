"""The service past one machine: replicas under Ray Serve, each with a host, behind one address; and Ray Data."""

from typing import Any

from adapterkit.serving.ray.settings import RaySettings


def app(settings: RaySettings) -> Any:
    """The Ray Serve application, for Ray's own tools: `serve run adapterkit.serving.ray:app registry=URL backbone=ID`.
    Raises ServingError: Ray is not there, or a file of keys cannot be read."""
    from adapterkit.serving.ray.deploying import deployment

    return deployment(settings)
