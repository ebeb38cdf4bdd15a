"""The Ray Serve application, and a cluster that runs it until somebody says that it is enough."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

from adapterkit.errors import ServingError
from adapterkit.serving.keys import read_keys
from adapterkit.serving.ray.settings import RaySettings

NAME = "adapterkit"
STATS_EVERY_S = 2.0
"""How often a replica says what it holds."""


def deployment(settings: RaySettings, around: Any = None) -> Any:
    """What `ray.serve.run` takes: replicas with a host each, behind a front. `around`: makes more of the application of
    every replica, such as a board. Raises ServingError: Ray is not there, or a file of keys cannot be read."""
    try:
        from ray import serve
        from ray.serve.config import AutoscalingConfig, RequestRouterConfig
    except ImportError as error:
        raise ServingError("replicas need Ray", remedy="pip install 'adapterkit[ray]'") from error
    from adapterkit.serving.ray.front import Front
    from adapterkit.serving.ray.replica import Replica
    from adapterkit.serving.ray.router import HomesRouter

    read_keys(settings.keys)
    number: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.max_replicas is not None:
        scaling = AutoscalingConfig(
            min_replicas=settings.replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.target_ongoing,
        )
        number = {"autoscaling_config": scaling}
    stop_s = settings.limits.deadline_s
    replicas = serve.deployment(Replica).options(
        name="replicas",
        max_ongoing_requests=settings.ongoing,
        graceful_shutdown_timeout_s=stop_s,
        ray_actor_options={"num_cpus": settings.cpus, "num_gpus": settings.gpus},
        request_router_config=RequestRouterConfig(
            request_router_class=HomesRouter, request_routing_stats_period_s=STATS_EVERY_S
        ),
        **number,
    )
    front = serve.deployment(Front).options(
        name="front",
        max_ongoing_requests=settings.limits.queued_rows,
        graceful_shutdown_timeout_s=stop_s,
        ray_actor_options={"num_cpus": 0},
    )
    return front.bind(replicas.bind(settings, around), settings)


def run(
    settings: RaySettings,
    host: str,
    port: int,
    certificate: Path | None = None,
    private_key: Path | None = None,
    around: Any = None,
) -> None:
    """Serve until SIGINT or SIGTERM: on the cluster that RAY_ADDRESS names, or on one of this machine alone.
    Raises ServingError: Ray is not there, or a replica cannot start."""
    built = deployment(settings, around)
    import ray
    from ray import serve

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
    enough = threading.Event()
    ray.init(ignore_reinit_error=True, log_to_driver=True)
    try:
        files = {"ssl_certfile": certificate, "ssl_keyfile": private_key}
        ssl = {name: str(file) for name, file in files.items() if file is not None}
        serve.start(http_options={"host": host, "port": port, **ssl})
        for sign in (signal.SIGINT, signal.SIGTERM):  # after Ray has set its own
            signal.signal(sign, lambda *_: enough.set())
        try:
            serve.run(built, name=NAME)
        except RuntimeError as error:
            raise ServingError("the replicas did not start", [str(error).splitlines()[-1]]) from error
        enough.wait()
        serve.delete(NAME)
    finally:
        serve.shutdown()
        ray.shutdown()
