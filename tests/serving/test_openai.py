"""OpenAI's own client, asking tasks as models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch
from starlette.testclient import TestClient

from adapterkit.errors import MountError
from adapterkit.host import Host
from adapterkit.manifest import open_manifest
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet
from adapterkit.tasks.table import TASKS
from tests.host.artifacts import Recipe, make


@pytest.fixture(scope="module")
def writing(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Fleet]]:
    """The client of a service with a poet."""
    with Host(tiny_backbones["gpt2"]) as host:
        fleet, kind = Fleet(host), "causal-lm"
        folder = make(
            tmp_path_factory.mktemp("texts") / "poet",
            host.backbone,
            Recipe(kind, "lora"),
            golden=TASKS[kind].sample_rows(),
        )
        fleet.mount("poet", str(folder), open_manifest(folder))
        with TestClient(create_app(fleet), base_url="http://test") as inner:
            yield openai.OpenAI(api_key="none", base_url="http://test/v1", http_client=inner), fleet


def test_a_completion_is_what_the_host_writes(writing: tuple[Any, Fleet]) -> None:
    client, fleet = writing
    mounted = fleet.routes["poet"].arms["stable"].mounted
    expected = fleet.host.generate([(mounted, "my card"), (mounted, "the fox")], max_new_tokens=6)
    reply = client.completions.create(model="poet", prompt=["my card", "the fox"], max_tokens=6, temperature=0)
    assert [choice.text for choice in reply.choices] == expected
    assert reply.adapterkit["receipts"][0]["artifact"] == fleet.routes["poet"].arms["stable"].digest
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    streamed = client.completions.create(model="poet", prompt="my card", max_tokens=6, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == expected[0]


def test_a_chat_is_streamed_as_the_host_writes_it(writing: tuple[Any, Fleet], monkeypatch: pytest.MonkeyPatch) -> None:
    client, fleet = writing
    template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    monkeypatch.setattr(fleet.host.backbone.tokenizer, "chat_template", template)
    messages = [{"role": "user", "content": "my card"}]
    mounted = fleet.routes["poet"].arms["stable"].mounted
    expected = fleet.host.generate([(mounted, {"messages": messages})], max_new_tokens=6)
    asked = {"model": "poet", "messages": messages, "max_tokens": 6, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    assert [whole.choices[0].message.content] == expected
    *chunks, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", None, None]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected[0]
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "stop"]
    assert (last.choices, last.usage) == ([], whole.usage)
    assert len({chunk.id for chunk in (*chunks, last)}) == 1


def test_models_are_the_tasks_and_the_backbone(writing: tuple[Any, Fleet]) -> None:
    client, _ = writing
    assert [model.id for model in client.models.list()] == ["poet", "backbone"]
    assert client.models.retrieve("poet").id == "poet"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("painter")


def test_embeddings_are_means_of_hidden_states(writing: tuple[Any, Fleet]) -> None:
    client, fleet = writing
    reply = client.embeddings.create(model="backbone", input=["my card", "the fox jumps"])
    expected = [state.mean(dim=0) for state in fleet.host.features(["my card", "the fox jumps"])]
    found = [torch.tensor(each.embedding) for each in reply.data]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # through JSON, or 32 bits of base64


@pytest.mark.parametrize(
    ("field", "value"), [("frequency_penalty", 0.5), ("logit_bias", {"1": 5}), ("echo", True), ("n", 2)]
)
def test_what_is_not_honoured_is_refused_by_name(writing: tuple[Any, Fleet], field: str, value: Any) -> None:
    client, _ = writing
    with pytest.raises(openai.UnprocessableEntityError, match=field):
        client.completions.create(model="poet", prompt="a", max_tokens=2, **{field: value})


def test_a_text_that_goes_on_otherwise_than_it_did_when_it_was_saved_is_never_served(
    writing: tuple[Any, Fleet], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, fleet = writing
    folder = next(status.source for status in fleet.host.status())
    assert any(row.text for row in open_manifest(folder).golden.rows)
    real = fleet.host.generate
    monkeypatch.setattr(fleet.host, "generate", lambda rows, **more: [f"{text}!" for text in real(rows, **more)])
    with pytest.raises(MountError, match="golden row 1 has another answer"):
        fleet.try_out("poet@anew", folder)
