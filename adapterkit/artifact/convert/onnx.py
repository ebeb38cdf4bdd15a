"""Write a backbone with an adapter as an ONNX model, once onnxruntime answers with it as the adapter does.

The model is traced (`torch.onnx.export(…, dynamo=False)`): that follows whatever a method hangs into a trunk, hooks and
wrapped modules too, and needs no package but torch. What a trace may have taken for a constant shows in the proof,
which asks for other lengths and another number of rows than were traced.
"""

import logging
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.adapted import Adapted
from adapterkit.artifact.card import escaped, export_card, fenced
from adapterkit.artifact.convert.answering import check_answers, example_features, plain_answer, visible
from adapterkit.artifact.reading import Artifact
from adapterkit.backbone import Backbone
from adapterkit.backbone.checkpoint import silence
from adapterkit.errors import ExportError, first_line
from adapterkit.heads import Headed
from adapterkit.manifest import CARD, MANIFEST, dump_json
from adapterkit.manifest.strict_json import without_nan
from adapterkit.methods.table import method_of
from adapterkit.recipe.kinds import FACTS
from adapterkit.tasks.confident import temperature_of
from adapterkit.tasks.protocol import Feature

MODEL, FACTS_FILE = "model.onnx", "export.json"
OPSET = 17
NEAR = 1e-4
"""By how much onnxruntime's answers may differ, as a share of the largest number of their row: it orders and joins
sums otherwise. Seen: 1e-6."""


def check_onnx(artifact: Artifact, *, unmerged: bool, quantise: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises ExportError for what cannot be asked, or where a package is missing."""
    if quantise not in ("", "int8"):
        raise ExportError(f"{quantise!r} is no way to quantise", remedy="Take int8, or leave it out.")
    if rows and not quantise:
        raise ExportError("rows say what quantising changes, and nothing is quantised", remedy="Take quantise='int8'.")
    needed = ("onnxruntime", *["onnx"] * bool(quantise))
    if missing := [f"{name}: not installed" for name in needed if find_spec(name) is None]:
        raise ExportError("an ONNX export is proven in onnxruntime", missing, "pip install 'adapterkit[onnx]'")


def write_onnx(
    artifact: Artifact,
    copy: Backbone,
    stage: Path,
    out: Path,
    *,
    unmerged: bool,
    quantise: str,
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Write `model.onnx` in float32 with any number of rows and tokens, tokenizer, manifest and a card. A language
    model comes without a cache. Arguments as of `export`.
    Raises ExportError: torch cannot trace the model, or onnxruntime answers otherwise."""
    merged = not unmerged and not method_of(artifact.manifest.method).why_not_merged(artifact.manifest.method)
    with artifact.adapted(copy) as adapted, silence():
        features = example_features(adapted, artifact)
        batches = [adapted.task.collate([one], adapted.vocabulary, seed=0).inputs for one in features]
        batches.append(adapted.task.collate(features, adapted.vocabulary, seed=0).inputs)
        expected = [plain_answer(adapted, batch, False) for batch in batches]
        scored = []  # each as a batch of its own, so that no padding is quantised with it
        for feature in adapted.task.encode(list(rows), adapted.vocabulary, "score").features if rows else ():
            scored.append((feature, adapted.task.collate([feature], adapted.vocabulary, seed=0)))
        if merged:
            adapted.merge()
        trace(adapted, batches[-1], stage / MODEL)
        answer = _session(stage / MODEL)
        found = [visible(answer(batch), batch) for batch in batches]
        check_answers("onnxruntime answers otherwise with what was written", found, expected, NEAR)
        facts: dict[str, Any] = {"format": "onnx", "opset": OPSET, "merged": merged, "weights": "float32"}
        if quantise:
            before = _metrics(stage / MODEL, adapted, rows, scored)
            _quantise(stage)
            spans = FACTS[artifact.task.kind].peft_type == "QUESTION_ANS"  # which are chosen among tokens
            changes = _changes(stage / MODEL, batches[:-1], expected[:-1], 0 if spans else -1)
            facts |= {"weights": quantise, "changes": changes}
            after = _metrics(stage / MODEL, adapted, rows, scored)
            facts["metrics"] = {name: {"float32": value, quantise: after[name]} for name, value in before.items()}
        copy.tokenizer.save_pretrained(stage)
        shutil.copyfile(artifact.folder / MANIFEST, stage / MANIFEST)
        (stage / FACTS_FILE).write_bytes(dump_json(without_nan(facts)))
        (stage / CARD).write_bytes(_card(artifact, list(batches[0]), facts))


class Traced(nn.Module):
    """A trunk with a head, whose inputs are named by their order."""

    def __init__(self, headed: Headed, names: Sequence[str], temperature: float) -> None:
        super().__init__()
        self.module, self.temperature = headed.module, temperature
        self._headed, self._names = headed, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits, as `Headed.logits` gives them, over the task's temperature."""
        logits = self._headed.logits(dict(zip(self._names, inputs, strict=True)))
        return logits if self.temperature == 1 else logits / self.temperature


def trace(adapted: Adapted, inputs: Mapping[str, Tensor], file: Path) -> None:
    """Write what an adapter computes as an ONNX model, for other rows and lengths than these too."""
    names = list(inputs)
    axes = {}
    for name, tensor in inputs.items():
        tokens = "target_tokens" if name.startswith("decoder") else "tokens"
        axes[name] = dict(enumerate(["rows", *["choices"] * (tensor.dim() - 2), tokens][: tensor.dim()]))
    model = Traced(adapted.headed, names, float(temperature_of(adapted.task))).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of every size that it reads
        try:
            torch.onnx.export(
                model,
                tuple(inputs.values()),
                str(file),
                input_names=names,
                output_names=["logits"],
                dynamic_axes={**axes, "logits": {0: "rows"}},
                opset_version=OPSET,
                dynamo=False,
            )
        except Exception as error:
            raise ExportError(
                f"torch cannot write {adapted.backbone.contract.architecture} as ONNX",
                [f"{adapted.task.kind} with {adapted.method.words}: {first_line(error)}"],
                "Export a plain checkpoint (--format transformers) and convert that with a tool for its family.",
            ) from error


def _session(file: Path) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """What asks onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    asked = {each.name for each in session.get_inputs()}
    return lambda inputs: torch.from_numpy(
        session.run(None, {name: tensor.numpy() for name, tensor in inputs.items() if name in asked})[0]
    )


def _quantise(stage: Path) -> None:
    """Weights in eight bits, activations by what each batch holds (dynamic)."""
    import onnxruntime.quantization as quantization

    wide = stage / "wide.onnx"
    (stage / MODEL).rename(wide)
    logging.disable(logging.WARNING)  # it advises another tool of its own, on the root logger
    try:
        quantization.quantize_dynamic(str(wide), str(stage / MODEL), weight_type=quantization.QuantType.QInt8)
    finally:
        logging.disable(logging.NOTSET)
    wide.unlink()


def _changes(
    file: Path, batches: Sequence[Mapping[str, Tensor]], expected: Sequence[Tensor], axis: int
) -> dict[str, Any]:
    """How far the golden answers moved: the largest change as a share of the row's largest number, and how many choices
    of the highest number along an axis stayed."""
    answer, worst, same, choices = _session(file), 0.0, 0, 0
    for batch, wanted in zip(batches, expected, strict=True):
        found = visible(answer(batch), batch).float()
        worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1.0)))
        kept = found.argmax(axis) == wanted.argmax(axis)
        same, choices = same + int(kept.sum()), choices + kept.numel()
    return {"largest": worst, "same_choices": same, "choices": choices}


def _metrics(
    file: Path, adapted: Adapted, rows: Sequence[Mapping[str, Any]], scored: Sequence[tuple[Feature, Any]]
) -> dict[str, float]:
    if not rows:
        return {}
    task, answer, outputs = adapted.task, _session(file), []
    for _, batch in scored:
        logits, at = answer(batch.inputs), task.answered(batch)
        if at is not None:
            logits = logits.flatten(0, -2)[at.flatten().nonzero().squeeze(-1)]
        outputs += task.outputs(logits, batch)
    found = task.score(list(rows), [feature for feature, _ in scored], outputs)
    return {name: float(metric.value) for name, metric in found.items()}


def _card(artifact: Artifact, names: Sequence[str], facts: Mapping[str, Any]) -> bytes:
    """What it is, how it is run, and what quantising changed."""
    manifest, weights = artifact.manifest, facts["weights"]
    what = "merged into the weights" if facts["merged"] else "beside the weights"
    sections = [
        (
            f"{escaped(Path(manifest.backbone.name).name)} with a {artifact.task.kind} adapter {what}.\n"
            f"Weights in {weights}, any number of rows and tokens. The adapter's digest: `{manifest.sha256}`."
        ),
        fenced(
            "python",
            "import onnxruntime",
            "from transformers import AutoTokenizer",
            "",
            'tokenizer = AutoTokenizer.from_pretrained(".")',
            f'session = onnxruntime.InferenceSession("{MODEL}")',
            f"# inputs: {', '.join(names)}",
            'logits = session.run(["logits"], dict(tokenizer("a text", return_tensors="np")))[0]',
        ),
    ]
    if moved := facts.get("changes"):
        kept = f"{moved['same_choices']} of {moved['choices']} golden choices are those of float32."
        lines = [f"In {weights} {kept}", f"The largest number moved by {moved['largest']:.1%}."]
        for name, both in facts["metrics"].items():
            lines.append(f"- {name}: {both['float32']:.4f} in float32, {both[weights]:.4f} in {weights}")
        sections.append("\n".join(lines))
    return export_card(manifest, "ONNX model", *sections)
