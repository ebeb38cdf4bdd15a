"""Laws of every method where it attaches. The table of `tests/laws` has every method on every family, with a head."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.functional import get_peft_model_state_dict

from adapterkit.errors import ArtifactError, MergeError, SiteError
from adapterkit.methods.rows.none import NO_TARGETS
from adapterkit.methods.table import attach
from adapterkit.recipe import BottleneckMethod, LoraMethod, NoMethod
from tests import tiny
from tests.methods.cases import CASES, PAIRS, Case, attached, bits, disturb, hidden, inputs, snapshot

methods = pytest.mark.parametrize("name", CASES)
pairs = pytest.mark.parametrize(("family", "name"), PAIRS)


@pytest.fixture
def case(name: str, family: str) -> Case:
    return CASES[name]


@pairs
def test_an_untrained_adapter_changes_no_bit(tiny_backbones: Any, family: str, case: Case) -> None:
    backbone = tiny_backbones[family]
    with torch.no_grad():
        bare = hidden(backbone.trunk, family)
        with attached(backbone, case.settings):
            adapted = hidden(backbone.trunk, family)
    assert torch.allclose(adapted, bare, rtol=0, atol=case.untrained)
    assert case.untrained or torch.equal(adapted, bare)


@pairs
def test_exactly_the_declared_parameters_are_trained(tiny_backbones: Any, family: str, case: Case) -> None:
    backbone = tiny_backbones[family]
    head = torch.nn.Linear(32, 2)
    frozen_head = torch.nn.Linear(32, 2).requires_grad_(False)
    model = torch.nn.ModuleDict({"trunk": backbone.trunk, "head": head, "borrowed": frozen_head})
    attachment = attach(model, backbone, case.settings, seed=0)
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    declared = {id(p) for p in attachment.parameters().values()}
    attachment.detach()
    assert trained == declared | {id(p) for p in head.parameters()}
    assert (not declared) == (case.settings.kind == "none")
    assert all(path.startswith("trunk.") for path in attachment.parameters())


@pairs
def test_a_training_step_changes_the_adapter_and_no_bit_of_the_backbone(
    tiny_backbones: Any, family: str, case: Case
) -> None:
    backbone = tiny_backbones[family]
    with attached(backbone, case.settings) as attachment:
        parameters = attachment.parameters()
        own = {id(p) for p in parameters.values()}
        frozen = [tensor for tensor in backbone.trunk.parameters() if id(tensor) not in own]
        before = [bits(tensor) for tensor in frozen]
        start = attachment.state()
        attachment.train()
        if parameters:
            optimizer = torch.optim.Adam(parameters.values(), lr=1e-3)
            for _ in range(2):  # the down-projections get their first gradient once the up-projections are not zero
                answer = hidden(backbone.trunk, family)
                (answer * torch.linspace(-1, 1, answer.numel()).view_as(answer)).sum().backward()
                optimizer.step()
        assert [bits(tensor) for tensor in frozen] == before
        end = attachment.state()
        # A key's bias moves all scores of a query alike, which the softmax ignores.
        assert [path for path in parameters if torch.equal(start[path], end[path]) and "key" not in path] == []
        assert all(tensor.grad is None for tensor in frozen)


@pairs
def test_a_saved_state_answers_the_same_on_a_fresh_attachment(tiny_backbones: Any, family: str, case: Case) -> None:
    backbone = tiny_backbones[family]
    with torch.no_grad():
        with attached(backbone, case.settings) as attachment:
            untrained = hidden(backbone.trunk, family)
            disturb(attachment)
            answer, state = hidden(backbone.trunk, family), attachment.state()
        assert case.settings.kind == "none" or not torch.allclose(answer, untrained, atol=1e-3)
        with attached(backbone, case.settings, seed=1) as attachment:
            attachment.load(state)
            assert torch.equal(hidden(backbone.trunk, family), answer)
            again = attachment.state()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[path], again[path]) for path in state)


@pairs
def test_merged_equals_unmerged_and_unmerging_restores_the_bytes(tiny_backbones: Any, family: str, case: Case) -> None:
    backbone = tiny_backbones[family]
    with attached(backbone, case.settings) as attachment, torch.no_grad():
        disturb(attachment, 0.05)
        before = {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()}
        answer = hidden(backbone.trunk, family)
        if case.merges:
            attachment.merge()
            # Products are summed in another order, through up to four layers of states of size 10.
            assert torch.allclose(hidden(backbone.trunk, family), answer, rtol=1e-4, atol=1e-4)
            attachment.unmerge()
        else:
            with pytest.raises(MergeError, match="activation stands between"):
                attachment.merge()
        assert {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()} == before
        assert torch.equal(hidden(backbone.trunk, family), answer)


@pairs
def test_detaching_leaves_the_trunk_as_it_was(tiny_backbones: Any, family: str, case: Case) -> None:
    backbone = tiny_backbones[family]
    before = snapshot(backbone.trunk)
    attachment = attach(backbone.trunk, backbone, case.settings, seed=0)
    disturb(attachment)
    hidden(backbone.trunk, family).sum().backward() if attachment.parameters() else None
    if case.merges:
        attachment.merge()
    attachment.detach()
    assert snapshot(backbone.trunk) == before
    assert attachment.parameters() == {}


@pairs
def test_the_state_has_the_names_and_values_that_peft_gives(tiny_backbones: Any, family: str, case: Case) -> None:
    backbone = tiny_backbones[family]
    if case.settings.kind == "none":
        return
    with attached(backbone, case.settings) as attachment:
        disturb(attachment)
        theirs, ours = get_peft_model_state_dict(backbone.trunk), attachment.state()
    assert theirs.keys() == ours.keys()
    splits = getattr(case.settings, "initialization", "") == "pissa"
    assert splits or all(torch.equal(theirs[path], ours[path]) for path in ours)


@pairs
def test_the_lowest_layer_is_the_lowest_one_adapted(tiny_backbones: Any, family: str, case: Case) -> None:
    backbone = tiny_backbones[family]
    settings = case.settings
    if settings.kind == "none":
        with attached(backbone, settings) as attachment:
            assert attachment.lowest_layer == {}
        return
    top = type(settings)(**{**settings.model_dump(), "top": 1})
    with attached(backbone, top) as attachment:
        expected = {stack: count - 1 for stack, count in backbone.sites.layer_count.items()}
        assert attachment.lowest_layer == expected


@pytest.mark.parametrize("family", tiny.DECODERS + tiny.ENCODER_DECODERS)
@methods
def test_cached_decoding_stays_the_same(tiny_backbones: Any, family: str, case: Case) -> None:
    backbone = tiny_backbones[family]
    batch = inputs(family)
    name = "decoder_input_ids" if family in tiny.ENCODER_DECODERS else "input_ids"
    ids = batch.pop(name)
    batch["attention_mask"] = torch.ones_like(batch["attention_mask"])

    def step_by_step() -> torch.Tensor:
        out = backbone.trunk(**batch_for(3), **{name: ids[:, :3]}, use_cache=True)
        rest = backbone.trunk(
            **batch_for(ids.shape[1]), **{name: ids[:, 3:]}, past_key_values=out.past_key_values, use_cache=True
        )
        return torch.cat([out.last_hidden_state, rest.last_hidden_state], 1)

    def batch_for(tokens: int) -> dict[str, torch.Tensor]:
        if family in tiny.ENCODER_DECODERS:
            return batch
        return {"attention_mask": batch["attention_mask"][:, :tokens]}

    with torch.no_grad():
        bare = step_by_step()
        with attached(backbone, case.settings) as attachment:
            assert torch.allclose(step_by_step(), bare, rtol=0, atol=case.untrained)
            disturb(attachment)
            whole = backbone.trunk(**batch_for(ids.shape[1]), **{name: ids}).last_hidden_state
            assert torch.allclose(step_by_step(), whole, atol=1e-4)


@methods
def test_gradient_checkpointing_gives_the_same_gradients(fresh_backbone: Any, name: str) -> None:
    for family in ("bert", "llama"):
        backbone = fresh_backbone(family)
        found = []
        for checkpointing in (False, True):
            with attached(backbone, CASES[name].settings) as attachment:
                disturb(attachment)
                if checkpointing:
                    backbone.trunk.activation_checkpointing_enable({"use_reentrant": False})
                # Layers are only checkpointed in train mode; nothing but their flag changes.
                backbone.trunk.train(checkpointing)
                for module in backbone.trunk.modules():
                    if isinstance(module, torch.nn.Dropout):
                        module.p = 0.0
                    if hasattr(module, "attention_dropout"):
                        module.attention_dropout = 0.0
                attachment.train(False)
                if not attachment.parameters():
                    break
                hidden(backbone.trunk, family, use_cache=False).square().sum().backward()
                found.append({path: p.grad.clone() for path, p in attachment.parameters().items()})
        if found:
            plain, checkpointed = found
            assert plain.keys() == checkpointed.keys()
            assert all(torch.allclose(plain[path], checkpointed[path], rtol=1e-4, atol=1e-5) for path in plain)


@methods
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bf16_backbone_takes_adapters_of_either_dtype(fresh_backbone: Any, name: str, dtype: torch.dtype) -> None:
    for family in ("bert", "t5"):
        backbone = fresh_backbone(family, dtype="bfloat16")
        before = snapshot(backbone.trunk)["bytes"]
        bare = hidden(backbone.trunk, family)
        attachment = attach(backbone.trunk, backbone, CASES[name].settings, seed=0, dtype=dtype)
        assert {p.dtype for p in attachment.parameters().values()} <= {dtype}
        with torch.no_grad():  # where x carries a gradient, torch takes other bf16 kernels for a bare linear too
            untrained = hidden(backbone.trunk, family)
        assert untrained.dtype == bare.dtype
        assert CASES[name].untrained or torch.equal(untrained, bare)
        disturb(attachment)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden(backbone.trunk, family)
        attachment.detach()
        assert snapshot(backbone.trunk)["bytes"] == before


@methods
def test_autocast_keeps_an_untrained_adapter_silent(tiny_backbones: Any, name: str) -> None:
    for family in ("bert", "gpt2", "t5"):
        backbone = tiny_backbones[family]
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            bare = hidden(backbone.trunk, family)
            with attached(backbone, CASES[name].settings):
                adapted = hidden(backbone.trunk, family)
        assert adapted.dtype == bare.dtype
        assert CASES[name].untrained or torch.equal(adapted, bare)


@methods
def test_the_same_seed_gives_the_same_adapter_and_leaves_the_generators_alone(tiny_backbones: Any, name: str) -> None:
    backbone = tiny_backbones["bert"]
    states = []
    for seed in (5, 5, 6):
        torch.manual_seed(len(states))
        before = torch.random.get_rng_state()
        with attached(backbone, CASES[name].settings, seed=seed) as attachment:
            states.append(attachment.state())
        assert torch.equal(torch.random.get_rng_state(), before)
    same, again, other = states
    assert all(torch.equal(same[path], again[path]) for path in same)
    drawn = name not in ("none", "lora-pissa", "ia3")  # neither a decomposition nor ones draw anything
    assert any(not torch.equal(same[path], other[path]) for path in same) == drawn


@methods
def test_the_config_is_plain_json_and_names_every_module(tiny_backbones: Any, name: str) -> None:
    with attached(tiny_backbones["bert"], CASES[name].settings) as attachment:
        config = attachment.config()
        modules = {re.split(r"\.(lora|bottleneck|ia3)_", path)[0] for path in attachment.state()}
    assert json.loads(json.dumps(config)) == config
    assert config["target_modules"] == (sorted(modules) or NO_TARGETS)
    if name != "none":
        assert config["peft_type"] == CASES[name].settings.kind.upper()
        assert config["task_type"] is None
        assert config["base_model_name_or_path"] is None


def test_the_config_does_not_depend_on_the_hash_seed(tiny_backbones: Any, tiny_folders: Any) -> None:
    script = (
        "import json, sys; from tests.methods.cases import CASES; from adapterkit.methods.table import attach\n"
        "from adapterkit.backbone import Backbone\n"
        "backbone = Backbone.load(sys.argv[1], dtype='float32', device='cpu')\n"
        "print(json.dumps(attach(backbone.trunk, backbone, CASES['lora-all-linear'].settings, seed=0).config()))"
    )
    root = Path(__file__).resolve().parents[2]
    # This process has a seed of its own, most often a random one.
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-W", "ignore", "-c", script, str(tiny_folders["bert"])]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    with attached(tiny_backbones["bert"], CASES["lora-all-linear"].settings) as attachment:
        assert run.stdout.strip() == json.dumps(attachment.config())


def test_a_second_attachment_is_refused(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with attached(backbone, LoraMethod()), pytest.raises(SiteError, match="carries an adapter already"):
        attach(backbone.trunk, backbone, BottleneckMethod(), seed=0)


def test_a_model_without_the_chosen_stack_is_refused(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["t5"]
    with pytest.raises(SiteError, match="does not hold any"):
        attach(torch.nn.ModuleDict({"encoder": backbone.trunk.encoder}), backbone, decoder_only(), seed=0)


def decoder_only() -> LoraMethod:
    return LoraMethod(sites=("cross_attention.query",))


def test_what_a_model_lacks_is_left_out(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["t5"]
    model = torch.nn.ModuleDict({"encoder": backbone.trunk.encoder})
    attachment = attach(model, backbone, LoraMethod(), seed=0)
    paths, lowest = list(attachment.parameters()), attachment.lowest_layer
    attachment.detach()
    assert lowest == {"encoder": 0}
    assert {path.split(".")[0] for path in paths} == {"encoder"}


def test_loading_other_tensors_names_every_difference_and_changes_nothing(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with attached(backbone, LoraMethod(top=1)) as attachment:
        before = attachment.state()
        state = attachment.state()
        a, b = (
            "encoder.layer.2.attention.self.query.lora_A.weight",
            "encoder.layer.2.attention.self.query.lora_B.weight",
        )
        c, d = a.replace("query", "value"), b.replace("query", "value")
        state[a] = torch.zeros(3, 32)
        state[b] = torch.full_like(state[b], float("nan"))
        state["pooler.dense.weight"] = state.pop(c)
        with pytest.raises(ArtifactError) as error:
            attachment.load(state)
        after = attachment.state()
    assert error.value.problems == tuple(
        sorted(
            [
                f"{a}: shape (3, 32), expected (8, 32)",
                f"{b}: holds values that are not finite",
                f"{c}: missing",
                "pooler.dense.weight: not of this adapter",
            ]
        )
    )
    assert d in after
    assert all(torch.equal(before[path], after[path]) for path in before)


def test_a_merged_adapter_cannot_be_loaded_into(tiny_backbones: Any) -> None:
    with attached(tiny_backbones["bert"], LoraMethod()) as attachment:
        attachment.merge()
        attachment.merge()  # twice is once
        with pytest.raises(MergeError, match="Unmerge it first"):
            attachment.load(attachment.state())


def test_values_that_are_not_finite_are_not_merged(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with attached(backbone, LoraMethod()) as attachment:
        before = {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()}
        with torch.no_grad():
            attachment.parameters()["encoder.layer.1.attention.self.value.lora_B.weight"].fill_(float("inf"))
        after_fill = {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()}
        with pytest.raises(MergeError, match=r"encoder\.layer\.1\.attention\.self\.value"):
            attachment.merge()
        assert {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()} == after_fill
        assert before.keys() == after_fill.keys()


def test_dropout_acts_only_while_training(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    for settings in (LoraMethod(dropout=0.5), BottleneckMethod(width=4, dropout=0.5)):
        with attached(backbone, settings) as attachment, torch.no_grad():
            disturb(attachment)
            assert torch.equal(hidden(backbone.trunk, "bert"), hidden(backbone.trunk, "bert"))
            attachment.train()
            assert not torch.equal(hidden(backbone.trunk, "bert"), hidden(backbone.trunk, "bert"))
            assert not any(module.training for module in backbone.trunk.embeddings.modules())


def test_detaching_twice_is_detaching_once(tiny_backbones: Any) -> None:
    attachment = attach(tiny_backbones["bert"].trunk, tiny_backbones["bert"], NoMethod(), seed=0)
    attachment.detach()
    attachment = attach(tiny_backbones["bert"].trunk, tiny_backbones["bert"], LoraMethod(), seed=0)
    attachment.detach()
    attachment.detach()
