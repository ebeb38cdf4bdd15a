"""The front door of the host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.compose.mountable import HeadState, Mountable, Origin, of_artifact
from adapterkit.errors import ArtifactError, ContractError, DataError, HostClosedError, MountError
from tests import tiny
from tests.host import artifacts
from tests.host.artifacts import Recipe, differences
from tests.host.conftest import FolderOf
from tests.laws import cases
from tests.tiny_tokenizers import MAX_TOKENS

METHODS = ("lora", "houlsby", "lora-dora", "none", "parallel", "lora-all-linear", "pfeiffer")
TEXT = Recipe("text-classification", "lora")
OTHER = Recipe("text-classification", "lora", seed=9)
TAGS = Recipe("token-classification", "houlsby")


@pytest.fixture
def host(tiny_backbones: Mapping[str, Any], folder_of: FolderOf) -> Iterator[ak.Host]:
    """A host with two adapters."""
    with ak.Host(tiny_backbones["bert"]) as made:
        made.mount("intent", folder_of("bert", TEXT))
        made.mount("tags", folder_of("bert", TAGS))
        yield made


def recipes_for(family: str) -> list[Recipe]:
    """One adapter per kind of a family, with the methods in turn."""
    kinds = [kind for kind, row in cases.KINDS.items() if family in row.families]
    return [
        Recipe(kind, METHODS[(turn + tiny.FAMILIES.index(family)) % len(METHODS)], cases.head_for(kind, family, turn))
        for turn, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_one_mixed_batch_answers_every_kind_as_each_adapter_alone(
    family: str, tiny_backbones: Mapping[str, Any], folder_of: FolderOf
) -> None:
    backbone = tiny_backbones[family]
    made = {recipe.kind: folder_of(family, recipe) for recipe in recipes_for(family)}
    rows = [(kind, artifacts.row_of(kind, artifacts.WORDS[:length])) for length in (1, 9, 17) for kind in made]
    with ak.Host(backbone) as host:
        for name, folder in made.items():
            host.mount(name, folder)
        mixed = host.predict(rows)

    for name, folder in made.items():
        places = [place for place, (kind, _) in enumerate(rows) if kind == name]
        expected = artifacts.alone(folder, backbone, [rows[place][1] for place in places])
        assert differences([mixed[place] for place in places], expected) == [], name


def test_rows_are_answered_in_their_order_in_batches_of_any_size(host: ak.Host) -> None:
    rows = [(("intent", "tags")[n % 2], {"text": " ".join(artifacts.WORDS[: 1 + n % 7])}) for n in range(20)]
    whole = host.predict(rows)

    for batch_size in (1, 3, 64):
        assert differences(host.predict(rows, batch_size=batch_size), whole) == []
    assert differences(host.predict(rows[::-1])[::-1], whole) == []


def test_many_tasks_on_one_row_and_on_several(host: ak.Host) -> None:
    text = {"text": "my card was lost"}
    expected = {name: host.predict([(name, text)])[0] for name in ("intent", "tags")}

    assert differences(host.predict_all(text, tasks=["intent", "tags"]), expected) == []
    assert differences(host.predict_all([text, text]), [expected, expected]) == []


def test_heads_on_the_bare_backbone_share_one_pass(tiny_backbones: Mapping[str, Any], folder_of: FolderOf) -> None:
    folders = [folder_of("bert", Recipe("text-classification", "none", seed=seed)) for seed in (1, 2, 3)]
    with ak.Host(tiny_backbones["bert"]) as host:
        for number, folder in enumerate(folders):
            host.mount(str(number), folder)
        read: list[int] = []
        run = host._forwards._run

        def counted(layers: Any, inputs: Any, reads: str) -> Any:
            read.append(len(layers))
            return run(layers, inputs, reads)

        host._forwards._run = counted  # type: ignore[method-assign]
        answers = host.predict_all("my card was lost")

    assert read == [1]
    for number, folder in enumerate(folders):
        alone = artifacts.alone(folder, tiny_backbones["bert"], ["my card was lost"])
        assert differences([answers[str(number)]], alone) == []


def test_logits_come_per_row_as_each_adapter_gives_them(
    host: ak.Host, tiny_backbones: Mapping[str, Any], folder_of: FolderOf
) -> None:
    backbone = tiny_backbones["bert"]
    batch = backbone.tokenizer(["my card was lost", "a fox", "the dog"], padding=True, return_tensors="pt")
    found = host.logits(batch, tasks=["tags", "intent", "tags"])

    for recipe, places in ((TEXT, [1]), (TAGS, [0, 2])):
        with open_artifact(folder_of("bert", recipe)).adapted(backbone) as adapted, torch.inference_mode():
            expected = adapted(dict(batch))
        for place in places:
            # Nobody says what stands at padding.
            there = batch["attention_mask"][place].bool() if recipe is TAGS else slice(None)
            torch.testing.assert_close(found[place][there], expected[place][there], atol=1e-5, rtol=1e-5)
    assert not found[0].is_inference()


def test_features_are_hidden_states_without_padding(
    host: ak.Host, tiny_backbones: Mapping[str, Any], folder_of: FolderOf
) -> None:
    backbone = tiny_backbones["bert"]
    texts = ["the dog", "my card was lost and the bank"]
    encoded = [backbone.tokenizer(text, return_tensors="pt") for text in texts]
    with torch.inference_mode():
        bare = [backbone.trunk(**item).last_hidden_state[0] for item in encoded]
        with open_artifact(folder_of("bert", TEXT)).adapted(backbone) as adapted:
            adaptedly = [adapted.module.bert(**item).last_hidden_state[0] for item in encoded]

    for found, expected in ((host.features(texts), bare), (host.features(texts, adapter="intent"), adaptedly)):
        for states, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(states, wanted, atol=1e-5, rtol=1e-5)


def test_a_swap_takes_effect_for_the_next_call(host: ak.Host, folder_of: FolderOf) -> None:
    before = host.predict([("intent", "my card was lost")])
    alone = artifacts.alone(folder_of("bert", OTHER), host.backbone, ["my card was lost"])

    assert host.swap("intent", folder_of("bert", OTHER)).version == 2

    after = host.predict([("intent", "my card was lost")])
    assert differences(after, alone) == []
    assert differences(after, before) != []


def test_mounting_swapping_and_unmounting_change_no_bit_of_the_others(host: ak.Host, folder_of: FolderOf) -> None:
    rows = [("tags", {"text": "Ada lived in London"})]
    before = host.predict(rows)

    host.mount("another", folder_of("bert", OTHER))
    assert host.predict(rows) == before
    host.swap("intent", folder_of("bert", OTHER))
    assert host.predict(rows) == before
    host.unmount("another")
    assert host.predict(rows) == before


def test_status_says_what_is_mounted(host: ak.Host, folder_of: FolderOf) -> None:
    host.predict([("intent", "my card was lost")] * 3)
    intent, tags = host.status()

    assert (intent.name, intent.version, intent.kind, intent.method, intent.rank) == (
        "intent", 1, "text-classification", "lora", 8,
    )  # fmt: skip
    assert (intent.slot, intent.hits, intent.resident, tags.hits, tags.slot) == (0, 3, True, 0, 1)
    assert intent.source == str(folder_of("bert", TEXT))
    # rank 8 at query and value of 3 layers of width 32, and a head of 2 classes
    assert intent.size_bytes == 4 * (3 * 2 * 8 * (32 + 32) + 2 * 32 + 2)
    assert str(host.status()).splitlines()[0].split() == [
        "name", "version", "kind", "method", "rank", "slot", "bytes", "hits", "resident",
    ]  # fmt: skip


def test_names_that_are_not_mounted_are_all_named_with_the_nearest(host: ak.Host) -> None:
    with pytest.raises(MountError) as caught:
        host.predict([("intents", "x"), ("nothing like it", "x"), ("tags", "x")])

    assert caught.value.problems == (
        "'intents' is not mounted; did you mean 'intent'?",
        "'nothing like it' is not mounted",
    )
    assert "Mounted: 'intent', 'tags'." in str(caught.value)
    with pytest.raises(MountError):
        host.unmount("nobody")
    with pytest.raises(MountError):
        host.features(["x"], adapter="nobody")


def test_a_name_that_is_taken_is_refused_and_nothing_changes(host: ak.Host, folder_of: FolderOf) -> None:
    before = host.predict([("intent", "my card was lost")])

    with pytest.raises(MountError, match=r"host\.swap"):
        host.mount("intent", folder_of("bert", OTHER))
    with pytest.raises(ValueError, match="not empty"):
        host.mount("", folder_of("bert", OTHER))
    with pytest.raises(MountError, match="not mounted"):
        host.swap("nobody", folder_of("bert", OTHER))
    assert host.predict([("intent", "my card was lost")]) == before
    assert [state.name for state in host.status()] == ["intent", "tags"]


def test_an_artifact_of_another_backbone_is_refused(host: ak.Host, folder_of: FolderOf) -> None:
    with pytest.raises(ContractError, match="does not fit this backbone"):
        host.mount("other", folder_of("gpt2", TEXT))
    with pytest.raises(ArtifactError):
        host.mount("other", "no/such/folder/anywhere")
    with pytest.raises(TypeError, match="cannot be mounted"):
        host.mount("other", 3)  # type: ignore[arg-type]
    assert "other" not in host


def test_no_rows_have_no_answers(host: ak.Host) -> None:
    assert host.predict([]) == []
    assert host.features([]) == []
    assert host.predict_all([]) == []


def test_rows_that_cannot_be_answered_are_all_named(host: ak.Host) -> None:
    rows: list[Any] = [("intent", {"txt": 1}), ("tags", {"text": "fine"}), ("tags", 5), ("intent", "fine")]

    with pytest.raises(DataError) as caught:
        host.predict(rows)

    assert caught.value.problems == (
        "row 1 (intent): no text; did you mean 'text' by 'txt'?",
        "row 3 (tags): found int, expected a dict with the task's columns, or text",
    )
    with pytest.raises(TypeError, match="row 1"):
        host.predict(["intent"])  # type: ignore[list-item]


def test_rows_longer_than_the_backbone_takes_are_cut_as_tasks_cut_them(host: ak.Host, folder_of: FolderOf) -> None:
    long = {"text": " ".join(artifacts.WORDS * 20)}

    for name, recipe in (("intent", TEXT), ("tags", TAGS)):
        expected = artifacts.alone(folder_of("bert", recipe), host.backbone, [long])
        assert differences(host.predict([(name, long)]), expected) == []
    assert len(host.features([long["text"]])[0]) == MAX_TOKENS


def test_tensors_that_do_not_fit_are_refused_before_the_device_sees_them(host: ak.Host) -> None:
    ids = torch.tensor([[2, 5, 3], [2, 100_000, 3]])

    with pytest.raises(DataError) as caught:
        host.logits({"input_ids": ids, "attention_mask": torch.ones(3, 3)}, tasks=["intent", "tags"])

    assert len(caught.value.problems) == 2
    assert "row 1 holds a token id outside 0 to" in caught.value.problems[0]
    with pytest.raises(DataError, match="at most 128"):
        host.logits({"input_ids": torch.ones(1, 129, dtype=torch.long)}, tasks=["intent"])


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RuntimeError])
def test_an_exception_in_the_middle_of_a_batch_leaves_the_host_answering(
    error: type[BaseException], host: ak.Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("intent", "my card was lost"), ("tags", {"text": "Ada lived"}), ("intent", "a fox")]
    before = host.predict(rows)
    layer = type(host.backbone.trunk.encoder.layer[1].output)
    forward = layer.forward
    calls: list[int] = []

    def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return forward(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", failing)
        with pytest.raises(error):
            host.predict(rows)
    assert host.predict(rows) == before
    assert host.features(["a fox"])[0].isfinite().all()


def test_a_hub_that_does_not_answer_is_an_error_of_the_artifact(host: ak.Host) -> None:
    with pytest.raises(ArtifactError, match="no hub gives it"):
        host.mount("hub", "me/nothing")


def test_opened_artifacts_and_training_results_are_mounted_too(host: ak.Host, folder_of: FolderOf) -> None:
    class Result:
        artifact = folder_of("bert", OTHER)

    host.mount("opened", open_artifact(folder_of("bert", OTHER)))
    host.mount("trained", Result())
    answers = host.predict([("opened", "a fox"), ("trained", "a fox")])

    assert answers[0] == answers[1]


class TwoHeads:
    """A plan: the method of one adapter under the heads of two."""

    def build(self, find: Any, backbone: Any) -> Mountable:
        first, second = of_artifact(find("intent")), of_artifact(find("tags"))
        head = second.heads[""]
        tags = HeadState(head.task, head.head, head.state, Origin())
        return Mountable(first.methods, {"intent": first.heads[""], "tags": tags}, {"note": 1})


def test_a_plan_with_several_heads_gives_an_answer_of_each(host: ak.Host) -> None:
    state = host.mount("both", TwoHeads())

    assert (state.kind, state.report) == ("text-classification, token-classification", {"note": 1})
    both, intent = host.predict([("both", {"text": "a fox"}), ("intent", {"text": "a fox"})])
    assert both.keys() == {"intent", "tags"}
    assert differences(both["intent"], intent) == []
    with pytest.raises(ArtifactError, match="made of artifacts"):
        host._mounting.artifact("both")
    with pytest.raises(MountError, match="several heads"):
        host.logits({"input_ids": torch.ones(1, 3, dtype=torch.long)}, tasks=["both"])


def test_a_closed_host_says_so(tiny_backbones: Mapping[str, Any], folder_of: FolderOf) -> None:
    host = ak.Host(tiny_backbones["bert"])
    host.close()

    with pytest.raises(HostClosedError):
        host.predict([("intent", "x")])
    with pytest.raises(HostClosedError):
        host.mount("intent", folder_of("bert", TEXT))
    with pytest.raises(HostClosedError):
        host.features(["x"])


def test_the_trunk_exists_once_and_stays_as_it_was(tiny_backbones: Mapping[str, Any], host: ak.Host) -> None:
    trunk = tiny_backbones["bert"].trunk
    own = {tensor.data_ptr() for tensor in trunk.parameters()}
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    host.predict([("intent", "a fox"), ("tags", {"text": "a fox"})])

    with host._engine.routed([]) as view:
        assert {tensor.data_ptr() for tensor in view.parameters()} <= own
    assert {tensor.data_ptr() for tensor in host._mounting.templates._trunk.parameters()} <= own
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.state_dict().items())
