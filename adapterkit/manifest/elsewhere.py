"""Files at URLs that fsspec knows (s3://, gs://, memory://), whatever their client calls its troubles."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from adapterkit.errors import AdapterkitError, ArtifactError, HubError, first_line


def read_url(url: str, limit_bytes: int) -> bytes | None:
    """One file of at most `limit_bytes`; None where there is none.
    Raises ArtifactError: it is larger; no more than that was read; HubError: it cannot be read."""
    with contextlib.suppress(FileNotFoundError), _told(url):
        system, path = _system(url)
        with system.open(path, "rb") as file:
            size = getattr(file, "size", None)
            raw = b"" if size is not None and size > limit_bytes else bytes(file.read(limit_bytes + 1))
        if (found := max(size or 0, len(raw))) > limit_bytes:
            raise ArtifactError(f"{url} is refused", [f"{found:,} bytes, expected at most {limit_bytes:,}"])
        return raw
    return None


def write_url(url: str, content: bytes, *, new: bool = False) -> bool:
    """Write one file. False where it shall be new and one stands there. Raises HubError where it cannot be written."""
    try:
        with _told(url):
            system, path = _system(url)
            if not new:
                system.pipe_file(path, content)
            elif system.exists(path):  # not all systems know `create`
                return False
            else:
                system.pipe_file(path, content, mode="create")
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        raise HubError(f"{url} cannot be written", [first_line(error)], "Make the bucket or folder first.") from error
    return True


def list_url(url: str) -> list[str]:
    """The names of what stands at a URL; none where nothing does, or it cannot be listed."""
    with contextlib.suppress(FileNotFoundError, HubError), _told(url):
        system, path = _system(url)
        return [str(each).rstrip("/").rpartition("/")[2] for each in system.ls(path, detail=False, refresh=True)]
    return []


def find_url(url: str, name: str, deepest: int) -> list[tuple[str, str]]:
    """The folders in and below a URL or a path that hold a file of this name, and when it was written: ISO 8601, or "".
    Folders whose names begin with a dot are passed over. Raises HubError: nothing is there, or it cannot be listed."""
    with contextlib.suppress(FileNotFoundError), _told(url):
        system, path = _system(url)
        path = path.rstrip("/")
        found = {str(at)[len(path) :]: facts for at, facts in system.find(path, maxdepth=deepest, detail=True).items()}
        if found or system.exists(path):
            ends = {at: facts for at, facts in found.items() if at.rpartition("/")[2] == name and "/." not in at}
            return [(url.rstrip("/") + at[: -len(name) - 1], _written(ends[at])) for at in sorted(ends)]
    raise HubError(f"there is nothing at {url}", ["expected a folder that artifacts lie in or below"])


def _written(facts: Mapping[str, Any]) -> str:
    """When a file was written, as its system says it."""
    moment = next((facts[name] for name in ("mtime", "LastModified", "updated", "created") if name in facts), None)
    if isinstance(moment, int | float):
        moment = datetime.fromtimestamp(moment, UTC)
    return moment.isoformat(timespec="minutes") if isinstance(moment, datetime) else ""


def is_outage(error: BaseException | None) -> bool:
    """Whether nobody answered: clients have classes of their own for it, with no base in common."""
    known = re.search("Connect|Timeout|Resolution", type(error).__name__)
    return isinstance(error, ConnectionError | TimeoutError) or known is not None


def _system(url: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, path = fsspec.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise HubError(
            f"{url} is no place that artifacts can be kept in",
            [first_line(error)],
            "Name a folder, or a URL whose fsspec package is installed (s3fs for s3://, gcsfs for gs://).",
        ) from error
    return system, str(path)


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """What a client raises as HubError that names the place, but for what is or is not there."""
    try:
        yield
    except (AdapterkitError, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        outage = is_outage(error)
        raise HubError(
            f"{url} cannot be {'reached' if outage else 'used'}",
            [f"{type(error).__name__}: {first_line(error)}"],
            "Check the address and the network." if outage else "Check the address, the credentials and their rights.",
        ) from error
