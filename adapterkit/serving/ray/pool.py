"""A pool of hosts under Ray Data: chunks of rows go in, lines of JSON come out, in order."""

import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from adapterkit.artifact import open_artifact
from adapterkit.data.incoming import each_row
from adapterkit.errors import AdapterkitError, ServingError
from adapterkit.host.opening import open_host
from adapterkit.manifest import shown_json
from adapterkit.recipe.reading import reading_settings
from adapterkit.serving.ray.settings import Hosting


@dataclass(frozen=True)
class Chunks:
    """The rows of a file in chunks of a fixed size, without those that are done."""

    rows: Path
    reading: Mapping[str, Any]
    done: int
    size: int

    def __call__(self) -> Iterator[pyarrow.Table]:
        """A block for every chunk: its number, and its rows."""
        found = (row for _, row in each_row(self.rows, reading_settings(self.reading)))
        number = 0
        while chunk := list(islice(found, self.size)):
            if number >= self.done:
                yield pyarrow.table({"number": [number], "rows": [pickle.dumps(chunk)]})
            number += 1


class ChunksSource(Datasource):  # type: ignore[misc]
    """Chunks, read one after the other by one process: a file is read faster than it is answered."""

    def __init__(self, chunks: Chunks) -> None:
        super().__init__()
        self._chunks = chunks

    def estimate_inmemory_data_size(self) -> int | None:
        """Of the file as it is."""
        return self._chunks.rows.stat().st_size

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """The one that reads."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(self._chunks, unknown)]


class PooledHost:
    """A host of the pool."""

    def __init__(self, hosting: Hosting) -> None:
        opened: dict[str, Any] = dict(hosting.sources)
        if hosting.name is not None:
            opened = {name: open_artifact(folder, parts=hosting.parts) for name, folder in opened.items()}
        self._name, self._host = hosting.name, open_host(opened, **hosting.settings)

    def __call__(self, chunks: pyarrow.Table) -> pyarrow.Table:
        """Lines of JSON for the rows of every chunk."""
        columns, one, lines = chunks.to_pydict(), self._name, list[bytes]()
        for rows in map(pickle.loads, columns["rows"]):
            asked = [row if one is None or isinstance(row, AdapterkitError) else (one, row) for row in rows]
            found = self._host.predict(asked, errors="return")
            plain = [{"error": answer.as_json()} if isinstance(answer, AdapterkitError) else answer for answer in found]
            lines.append("".join(f"{shown_json(answer)}\n" for answer in plain).encode())
        return pyarrow.table({"number": columns["number"], "lines": lines})


@contextmanager
def connected() -> Iterator[None]:
    """The cluster that this process, or RAY_ADDRESS, speaks to; else one of this machine alone, while it lasts."""
    own = not ray.is_initialized()
    if own:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
        ray.init(log_to_driver=False)
    context = DataContext.get_current()
    before = context.target_max_block_size, context.execution_options.preserve_order, context.enable_progress_bars
    context.target_max_block_size = 1  # a chunk is a block, and goes to whoever is free
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    try:
        yield
    except ray.exceptions.RayError as error:
        raise ServingError("the hosts did not answer", [str(error).strip().splitlines()[-1]]) from error
    finally:
        context.target_max_block_size, context.execution_options.preserve_order, context.enable_progress_bars = before
        if own:
            ray.shutdown()


def answered(hosting: Hosting, chunks: Chunks) -> Iterator[tuple[int, bytes]]:
    """Number and lines of every chunk, in order."""
    found = ray.data.read_datasource(ChunksSource(chunks), override_num_blocks=1).map_batches(
        PooledHost,
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, max_size=hosting.actors),
        fn_constructor_args=(hosting,),
        num_cpus=hosting.cpus,
        num_gpus=hosting.gpus or None,
    )
    for table in found.iter_batches(batch_size=None, batch_format="pyarrow"):
        columns = table.to_pydict()
        yield from zip(columns["number"], columns["lines"], strict=True)
