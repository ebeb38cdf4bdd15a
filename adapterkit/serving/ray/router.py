"""Which replica Ray Serve offers a call to: by the names of its tasks, which the call brings as an argument.

Ray's own multiplexing wants one name a call, and its batches hold rows of one name alone. Here a call keeps its mix.
"""

from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from adapterkit.traffic.homes import Shares, ranked

HELD = "held"
"""What a replica tells of itself: the tasks whose adapters are in its memory."""


class HomesRouter(RequestRouter):  # type: ignore[misc]
    """Offers a call to the homes of its tasks, then to who holds them, then to anybody; the least busy of a rank."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Begin without having seen anything."""
        self._shares = Shares()

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """Ranks of replicas, the best first."""
        asked: dict[str, int] = {}
        if pending_request is not None:
            asked = pending_request.kwargs.get("tasks", {})
            pending_request.routing_context.should_backoff = True
        known = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        held = {name: replica.routing_stats.get(HELD, ()) for name, replica in known.items()}
        return [[known[name] for name in rank] for rank in ranked(asked, held, self._shares)]

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """Count what a call asked, once it has found its replica."""
        self._shares.add(pending_request.kwargs.get("tasks", {}))
