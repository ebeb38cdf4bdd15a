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
from adapterkit.artifact.convert.imported import SEED, save_imported
from adapterkit.artifact.convert.method_settings import find_method
from adapterkit.artifact.convert.peft import check_tokenizer, load_stated_backbone, read_source, without_copies
from adapterkit.artifact.convert.peft_facts import PeftFacts, read_facts
from adapterkit.artifact.convert.peft_tensors import refuse_backbone_tensors, with_moved_weight, without_wrappers
from adapterkit.artifact.convert.samples import make_task
from adapterkit.artifact.convert.sentence.encoder import read_encoder
from adapterkit.artifact.convert.sentence.logistic import HEAD, labels_of, read_logistic
from adapterkit.artifact.saving import SaveDtype
from adapterkit.artifact.tensors import parse_header, read_tensors, shortened
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError
from adapterkit.heads import Headed, build_head
from adapterkit.heads.own import HEAD_NAME
from adapterkit.manifest import CONFIG, TENSORS, parse_object
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
        rows: as for `import_peft`, and what follows too.
        overwrite: replace what stands at `out`.
        dtype: of the saved tensors.

    Returns:
        `out` as a path.

    Raises:
        ArtifactError: the folder is damaged, a fact is missing, or it holds something that adapterkit does not have.
        BackboneError: the backbone cannot be loaded.
        OutputError: `out` is in the way or cannot be written.
    """
    src = Path(src)
    encoder, settings = read_encoder(src), dict(task or {})
    is_adapted, linear = (encoder.folder / CONFIG).exists(), read_logistic(src) if (src / HEAD).exists() else None
    if not is_adapted and linear is None:
        raise ArtifactError(
            f"{src} cannot be imported",
            [f"{CONFIG}: no such file, and no {HEAD}"],
            "An adapter or SetFit's head makes an artifact; a whole encoder is a backbone: name it in backbone.name.",
        )
    if linear is not None:
        kind = _same("kind", kind, _TEXT, src)
        settings["problem"] = _same("problem", settings.get("problem"), linear.problem, src)
        labels = labels_of(linear, encoder.labels) if labels is None else labels
    if is_adapted:
        config = parse_object(read_source(encoder.folder, CONFIG), CONFIG)
        facts = read_facts(config, src)
        backbone = backbone if isinstance(backbone, Backbone) else load_stated_backbone(facts, backbone, src)
    else:
        config, facts, backbone = {}, None, _own_or_same(encoder.folder, backbone)
    kind = _kind(kind, backbone, src)
    check_tokenizer(encoder.folder, backbone, kind)
    if encoder.max_tokens is not None and encoder.max_tokens < (backbone.max_tokens or encoder.max_tokens + 1):
        settings.setdefault("max_tokens", encoder.max_tokens)
    made = make_task(kind, labels, settings, src, [] if linear is None else [len(linear.bias)])
    own = {"kind": "linear", "pooling": encoder.pooling or backbone.pooling, "normalize": encoder.normalize}
    head = HeadSettings(**({"kind": "family"} if FACTS[kind].borrows_head else own))
    bare = build_head(backbone, kind, made.classes, head, seed=SEED)
    method, tensors = _method(facts, config, encoder.folder, backbone, bare)
    if head.is_own:
        weight_CD, bias_C = torch.zeros(made.classes, backbone.hidden_size), torch.zeros(made.classes)
        tensors[f"{PREFIX}{HEAD_NAME}.output.classifier.weight"] = weight_CD if linear is None else linear.weight
        tensors[f"{PREFIX}{HEAD_NAME}.output.classifier.bias"] = bias_C if linear is None else linear.bias
    del bare
    if facts is not None and facts.moved:
        method = method.model_copy(update={"initialization": facts.moved})
        tensors = with_moved_weight(tensors, backbone, made, method, head)  # type: ignore[arg-type]
    origin = "sentence-transformers" if linear is None else "SetFit"
    return save_imported(
        Path(out), src, origin, backbone, made, method, head, tensors, rows=rows, overwrite=overwrite, dtype=dtype
    )


def _same(name: str, given: str | None, found: str, src: Path) -> str:
    if given not in (None, found):
        problem = f"{name}: its head says {found}, and {given} was asked for"
        raise ArtifactError(f"{src} cannot be imported", [problem], "Leave it out.")
    return found


def _kind(given: str | None, backbone: Backbone, src: Path) -> str:
    """The kind of the artifact; without a word a language model's, where the checkpoint has that one's head."""
    ours = [kind for kind, facts in FACTS.items() if facts.borrows_head or facts.pooled]
    if given in ours:
        return str(given)
    if given is not None:
        problem = f"kind: found {given!r:.40}, expected one of {', '.join(ours)}"
        raise ArtifactError(f"{src} cannot be imported", [problem])
    for kind in (kind for kind in KINDS if FACTS[kind].borrows_head and backbone.model_class(kind) is not None):
        if not build_head(backbone, kind, 0, HeadSettings(kind="family"), seed=SEED).trained:
            return kind
    raise ArtifactError(
        f"{src} cannot be imported",
        ["kind: it has no head, and its checkpoint has none of a language model"],
        f"Say what it is for: kind={_TEXT}, labels=[…] (--kind, --labels). Its head is a new one, of "
        "zeros: train it with training.start_from={run: OUT, take: [method]}. Host.features needs no head.",
    )


def _method(
    facts: PeftFacts | None, config: Mapping[str, Any], folder: Path, backbone: Backbone, bare: Headed
) -> tuple[MethodSettings, dict[str, Tensor]]:
    """The adapter of the bare trunk, and its tensors under their names below the head's class."""
    if facts is None:
        return NoMethod(), {}
    raw = read_source(folder, TENSORS)
    found = without_wrappers(without_copies(read_tensors(raw, parse_header(raw, TENSORS), TENSORS)))
    refuse_backbone_tensors(found, facts, Headed(backbone.trunk, {}), folder)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    method = find_method(facts, config, shapes, backbone.trunk, backbone, folder)
    site = backbone.sites.sites[0].path
    start = PREFIX + str(Reach(bare.module, backbone.trunk).path(site)).removesuffix(site)
    return method, {start + name.removeprefix(PREFIX): tensor for name, tensor in found.items()}


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
            f"{folder} cannot be imported: its encoder is not {other.name}",
            shortened([f"{name}: other numbers" for name in moved]),
            "SetFit has trained it. Leave backbone out: the folder is a backbone of its own.",
        )
    return other
