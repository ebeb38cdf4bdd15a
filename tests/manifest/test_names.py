from __future__ import annotations

import pytest

from adapterkit.errors import HubError
from adapterkit.manifest.names import ArtifactName, check_publishable, parse_hub_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("me/intent", ArtifactName("me/intent", None)),
        ("me/intent@v1.2", ArtifactName("me/intent", "v1.2")),
        ("me/intent@refs/pr/1", ArtifactName("me/intent", "refs/pr/1")),
    ],
)
def test_a_name_is_read_and_written_the_same(text, expected):
    assert parse_hub_name(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["", "intent", "./runs/intent", "/me/intent", "me/intent@", "a/b/c", "me/int ent"])
def test_a_path_is_no_name(text):
    with pytest.raises(HubError, match="no name on a hub"):
        parse_hub_name(text)


def test_both_names_of_a_publication_are_checked_at_once():
    check_publishable("me/intent", None)
    check_publishable("me/intent", "v1")
    with pytest.raises(HubError) as caught:
        check_publishable("intent", "v 1")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["repository", "tag"]
