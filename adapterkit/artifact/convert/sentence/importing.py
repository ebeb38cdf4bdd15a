"""A LoRA that sentence-transformers saved, and a head that SetFit saved, turned into an artifact with the same answers.

sentence-transformers adapts the bare trunk, so its tensors' names lack what stands before the trunk in a class with a
head. A SetFit folder is a whole encoder with a `model_head.pkl`: that encoder is the backbone,
and the head a linear one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.convert.imports import SEED, ImportOptions, backbone_of, importing, make_task, save_imported
from adapterkit.artifact.convert.method_settings import find_method
from adapterkit.artifact.convert.peft import check_tokenizer, read_peft_tensors, read_source
from adapterkit.artifact.convert.peft_facts import read_facts
from adapterkit.artifact.convert.peft_tensors import refuse_backbone_tensors, with_moved_weight
from adapterkit.artifact.convert.sentence.encoder import read_encoder
from adapterkit.artifact.convert.sentence.logistic import HEAD, labels_of, read_logistic
from adapterkit.artifact.saving import SaveDtype
from adapterkit.artifact.tensors import shortened
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError
from adapterkit.heads import Headed, build_head
from adapterkit.heads.own import HEAD_NAME
from adapterkit.manifest import CONFIG, parse_object
from adapterkit.methods.reach import Reach
from adapterkit.recipe import HeadSettings, MethodSettings, NoMethod
from adapterkit.recipe.kinds import FACTS, KINDS

_TEXT = next(kind for kind, facts in FACTS.items() if facts.peft_type == "SEQ_CLS")


def import_sentence_transformers(
    src: str | Path,
    out: str | Path,
    backbone: Backbone | str | Path | None = None,
    *,
    kind: str | None = None,
    labels: Sequence[str] | None = None,
    task: Mapping[str, Any] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
    dtype: SaveDtype | None = None,
) -> Path:
    """Turn a folder of sentence-transformers with an adapter, or one of SetFit's, into an artifact.

    Args:
        src: the folder: `adapter_config.json` beside `modules.json`, or `model_head.pkl`, or both.
        out: where the artifact shall stand.
        backbone: what the adapter was trained on; None loads what its config names, or the encoder in the folder.
        kind: of the task, where the folder has no head: a language model's, or one that pools, with a new head.
        labels: names of the classes in the order of the logits; None takes those of SetFit.
        task: more of a recipe's task settings.
        rows: as for `import_peft`, and what follows too, the result and the errors.
        overwrite: replace what stands at `out`.
        dtype: of the saved tensors.
    """
    src, asked = Path(src), ImportOptions(kind, labels, task, rows, overwrite, dtype)
    with importing(src):
        return _import(src, out, backbone, asked)


def _import(src: Path, out: str | Path, given: Backbone | str | Path | None, asked: ImportOptions) -> Path:
    encoder, settings = read_encoder(src), dict(asked.task or {})
    is_adapted, linear = (encoder.folder / CONFIG).exists(), read_logistic(src) if (src / HEAD).exists() else None
    if not is_adapted and linear is None:
        raise ArtifactError(
            "it holds no adapter",
            [f"{CONFIG}: no such file, and no {HEAD}"],
            "An adapter or SetFit's head makes an artifact; a whole encoder is a backbone: name it in backbone.name.",
        )
    kind, labels = asked.kind, asked.labels
    if linear is not None:
        kind = _same("kind", kind, _TEXT)
        settings["problem"] = _same("problem", settings.get("problem"), linear.problem)
        labels = labels_of(linear, encoder.labels) if labels is None else labels
    facts = None
    if is_adapted:
        config = parse_object(read_source(encoder.folder, CONFIG), CONFIG)
        facts = read_facts(config)
        backbone = backbone_of(given, facts.base_model, facts.revision)
    else:
        backbone = _own_or_same(encoder.folder, given)
    kind = _kind(kind, backbone)
    check_tokenizer(encoder.folder, backbone, kind)
    if encoder.max_tokens is not None and encoder.max_tokens < (backbone.max_tokens or encoder.max_tokens + 1):
        settings.setdefault("max_tokens", encoder.max_tokens)
    made = make_task(kind, labels, settings, [] if linear is None else [len(linear.bias)])
    own = {"kind": "linear", "pooling": encoder.pooling or backbone.pooling, "normalize": encoder.normalize}
    head = HeadSettings(**({"kind": "family"} if FACTS[kind].borrows_head else own))
    bare = build_head(backbone, kind, made.classes, head, seed=SEED)
    method: MethodSettings = NoMethod()
    tensors: dict[str, Tensor] = {}
    if facts is not None:  # of the bare trunk, whose names lack what stands before it in the head's class
        found = read_peft_tensors(encoder.folder)
        refuse_backbone_tensors(found, facts, Headed(backbone.trunk, {}))
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        method = find_method(facts, config, shapes, backbone.trunk, backbone)
        site = backbone.sites.sites[0].path
        start = PREFIX + str(Reach(bare.module, backbone.trunk).path(site)).removesuffix(site)
        tensors = {start + name.removeprefix(PREFIX): tensor for name, tensor in found.items()}
    if head.is_own:
        weight_CD, bias_C = torch.zeros(made.classes, backbone.hidden_size), torch.zeros(made.classes)
        tensors[f"{PREFIX}{HEAD_NAME}.output.classifier.weight"] = weight_CD if linear is None else linear.weight
        tensors[f"{PREFIX}{HEAD_NAME}.output.classifier.bias"] = bias_C if linear is None else linear.bias
    del bare
    if facts is not None:
        method, tensors = with_moved_weight(facts, method, tensors, backbone, made, head)
    origin = "sentence-transformers" if linear is None else "SetFit"
    return save_imported(out, src, origin, asked, backbone, made, method, head, tensors)


def _same(name: str, given: str | None, found: str) -> str:
    if given not in (None, found):
        problem = f"{name}: its head says {found}, and {given} was asked for"
        raise ArtifactError(f"it has another {name}", [problem], "Leave it out.")
    return found


def _kind(given: str | None, backbone: Backbone) -> str:
    """The kind of the artifact; without a word a language model's, where the checkpoint has that one's head."""
    ours = [kind for kind, facts in FACTS.items() if facts.borrows_head or facts.pooled]
    if given in ours:
        return str(given)
    if given is not None:
        raise ArtifactError("it is for another kind", [f"kind: found {given!r:.40}, expected one of {', '.join(ours)}"])
    for kind in (kind for kind in KINDS if FACTS[kind].borrows_head and backbone.model_class(kind) is not None):
        if not build_head(backbone, kind, 0, HeadSettings(kind="family"), seed=SEED).trained:
            return kind
    raise ArtifactError(
        "its kind is not known",
        ["kind: it has no head, and its checkpoint has none of a language model"],
        f"Say what it is for: kind={_TEXT}, labels=[…] (--kind, --labels). Its head is a new one, of "
        "zeros: train it with training.start_from={run: OUT, take: [method]}. Host.features needs no head.",
    )


def _own_or_same(folder: Path, given: Backbone | str | Path | None) -> Backbone:
    """The encoder in the folder; or the backbone that is given, where its weights are the same."""
    if given is None:
        return Backbone.load(str(folder))
    other = given if isinstance(given, Backbone) else Backbone.load(str(given))
    own = Backbone.load(str(folder), dtype="float32", device="cpu")
    theirs = other.trunk.state_dict()
    moved = [
        name
        for name, tensor in own.trunk.state_dict().items()
        if name not in own.uninitialized | other.uninitialized
        and (name not in theirs or not torch.equal(tensor.to(theirs[name].dtype), theirs[name].cpu()))
    ]
    if moved:
        raise ArtifactError(
            f"its encoder is not {other.name}",
            shortened([f"{name}: other numbers" for name in moved]),
            "SetFit has trained it. Leave backbone out: the folder is a backbone of its own.",
        )
    return other
