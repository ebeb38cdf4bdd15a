"""How many replicas a service has, and what each may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from adapterkit.serving.settings import Count, Positive, ServiceSettings


class RaySettings(ServiceSettings):
    """A service of several replicas. Paths have to be there on every machine of the cluster.

    Attributes:
        replicas: how many there are at first, and at least.
        max_replicas: how many there may be; between the two Ray follows the requests. None keeps their number.
        ongoing: requests that one replica takes at once; what comes beyond is offered to another, or waits.
        target_ongoing: requests at once per replica that Ray aims at, where it may choose.
        cpus: processors per replica, which are its threads too.
        gpus: accelerators per replica.
    """

    replicas: Count = 2
    max_replicas: Count | None = None
    ongoing: Count = 256
    target_ongoing: Positive = 32.0
    cpus: Positive = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _more_at_most(self) -> RaySettings:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas: found {self.max_replicas}, expected {self.replicas} or more")
        return self
