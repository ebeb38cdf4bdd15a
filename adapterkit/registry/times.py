"""Times as the registry writes them: UTC, to the microsecond, in texts that compare as they read."""

from datetime import UTC, datetime, timedelta

from adapterkit.errors import RegistryError

_FORM = "%Y-%m-%dT%H:%M:%S.%fZ"


def written(when: datetime) -> str:
    """A time as the registry writes it."""
    return when.astimezone(UTC).strftime(_FORM)


def after(previous: str) -> str:
    """This moment, and later than `previous` even where the clocks of two writers disagree."""
    moment = written(datetime.now(UTC))
    if moment > previous:
        return moment
    return written(datetime.strptime(previous, _FORM).replace(tzinfo=UTC) + timedelta(microseconds=1))


def parse_time(when: str | datetime) -> str:
    """A time that somebody gave: ISO 8601; without a zone it is UTC, a mere date is its first moment.
    Raises RegistryError: it is no time."""
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            raise RegistryError(
                f"{when!r} is no time", ["at: expected ISO 8601"], "As in 2026-11-28T09:30 or 2026-11-28T10:30+01:00."
            ) from None
    return written(when if when.tzinfo is not None else when.replace(tzinfo=UTC))
