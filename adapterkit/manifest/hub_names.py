"""Names of artifacts on a hub: owner/name, with a tag, branch or commit behind it where one is meant."""

import re
from dataclasses import dataclass

from adapterkit.errors import HubError

_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_REPOSITORY = re.compile(_NAME)
_HUB_NAME = re.compile(rf"(?P<repository>{_NAME})(@(?P<revision>[A-Za-z0-9][\w./-]*))?")
_TAG = re.compile(r"(?!HEAD$)(?![0-9a-f]{40}$)(?!.*\.\.)(?!.*(\.lock|\.)$)[A-Za-z0-9][\w.-]*", re.ASCII)
"""What git takes as a tag, and nobody takes for a commit."""


@dataclass(frozen=True)
class HubName:
    """An artifact on a hub, in the repository owner/name."""

    repository: str
    revision: str | None
    """A tag, a branch or a commit; None for the newest."""

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}" if self.revision else self.repository


def parse_hub_name(text: str) -> HubName:
    """owner/name or owner/name@revision. Raises HubError for any other text."""
    found = _HUB_NAME.fullmatch(text)
    if found is None:
        raise HubError(f"{text!r} is no name on a hub", ["expected owner/name or owner/name@revision"])
    return HubName(found["repository"], found["revision"])


def is_repository(text: str) -> bool:
    """Whether a text can be owner/name on a hub."""
    return _REPOSITORY.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether a text can be the name of a version."""
    return _TAG.fullmatch(text) is not None


def check_publishable(repository: str, tag: str | None) -> None:
    """Refuse what cannot be the name of a repository or of a tag. Raises HubError, with both where both are wrong."""
    problems = []
    if not is_repository(repository):
        problems.append(f"repository: found {repository!r}, expected owner/name")
    if tag is not None and not is_tag(tag):
        problems.append(f"tag: found {tag!r}, expected what git takes: letters, digits, '_', '-', single '.'")
    if problems:
        raise HubError("this cannot be published", problems)
