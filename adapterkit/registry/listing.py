"""The versions in the database, and the channels that point to them."""

from __future__ import annotations

import json
from typing import Any

from adapterkit.registry.records import Version


def listed_versions(connection: Any, *which: Any) -> tuple[Version, ...]:
    """Versions by task and number. Of their manifests, which may be large, the metrics alone leave the database.
    `which`: conditions on the table of versions."""
    from sqlalchemy import JSON, cast, func, select

    from adapterkit.registry.tables import CHANNELS, VERSIONS

    facts, manifest = [column for column in VERSIONS.c if column.name != "manifest"], VERSIONS.c.manifest
    sqlite = connection.dialect.name == "sqlite"
    metrics = func.json_extract(manifest, "$.metrics") if sqlite else cast(manifest, JSON)["metrics"].as_string()
    found = select(*facts, metrics.label("metrics")).where(*which).order_by(VERSIONS.c.task, VERSIONS.c.number)
    rows = connection.execute(found).mappings().all()
    pointing: dict[tuple[str, str], list[str]] = {}
    for pointer in connection.execute(select(CHANNELS).order_by(CHANNELS.c.channel)):
        pointing.setdefault((pointer.task, pointer.digest), []).append(pointer.channel)
    channels = [tuple(pointing.get((row["task"], row["digest"]), ())) for row in rows]
    return tuple(
        Version(**{**row, "metrics": json.loads(row["metrics"]), "channels": own})
        for row, own in zip(rows, channels, strict=True)
    )
