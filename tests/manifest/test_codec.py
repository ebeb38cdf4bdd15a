from __future__ import annotations

import json

import pytest

from adapterkit.errors import ArtifactError
from adapterkit.manifest import Manifest, dump_json, dump_manifest, parse_manifest
from tests.artifact.mutations import MANIFEST, resign


@pytest.fixture
def content(saved):
    return json.loads((saved / MANIFEST).read_bytes())


def test_what_is_written_is_read_back(saved, content):
    raw = (saved / MANIFEST).read_bytes()
    manifest = parse_manifest(raw)
    assert isinstance(manifest, Manifest)
    content.pop("sha256")
    assert dump_manifest(content) == raw
    assert manifest.model_dump(mode="json", exclude_unset=True) == json.loads(raw)


def test_the_spelling_does_not_matter_to_the_digest(saved, content):
    assert parse_manifest(json.dumps(content).encode()) == parse_manifest((saved / MANIFEST).read_bytes())


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("seed",), True, "seed"),
        (("seed",), "0", "seed"),
        (("unknown",), 1, "unknown: Extra inputs"),
        (("method", "rank"), 5000, "method.rank: Input should be less than or equal to 4096, found 5000"),
        (("method", "alpha"), 2e6, "method.alpha: Input should be less than or equal to 1000000"),
        (("method", "kind"), "ia3", "method.rank: Extra inputs are not permitted"),
        (("method", "kind"), "scale", "or a package with the entry point 'scale' in adapterkit.methods"),
        (("method", "sites"), [], "method.sites: is empty; name at least one site"),
        (("head", "kind"), "auto", "expected the kind that was built"),
        (("files",), {}, "files: found"),
        (("files", "../x"), {"size_bytes": 1, "sha256": "0" * 64}, "files: found"),
        (("version",), 2, "version, parent and history do not agree"),
        (("parent",), "0" * 64, "version, parent and history do not agree"),
        (("backbone", "name"), "a\nb", "backbone.name"),
        (("backbone", "fingerprint"), "0" * 63, "backbone.fingerprint"),
        (("dtype",), "int4", "dtype"),
        (("golden", "rows"), [{}], "golden.rows"),
    ],
)
def test_fields_of_other_types_and_out_of_bounds_are_named(saved, content, path, value, words):
    target = content
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    if path[0] != "files":
        resign(saved, content)
    else:
        from hashlib import sha256

        content.pop("sha256")
        content["sha256"] = sha256(dump_json(content)).hexdigest()
        (saved / MANIFEST).write_bytes(dump_json(content))
    with pytest.raises(ArtifactError) as caught:
        parse_manifest((saved / MANIFEST).read_bytes())
    assert any(words in problem for problem in caught.value.problems)
    assert not any("digest" in problem for problem in caught.value.problems)


def test_a_manifest_that_is_too_large_is_refused_before_it_is_read():
    with pytest.raises(ArtifactError, match="too large"):
        parse_manifest(b" " * ((8 << 20) + 1))


def test_what_could_not_be_read_is_not_written(content):
    content.pop("sha256")
    with pytest.raises(ArtifactError):
        dump_manifest({**content, "seed": -1})
