"""Damaged folders of plain PEFT through import: what is accepted answers as PEFT itself makes of that very folder."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import IA3Config, LoraConfig, PeftModel, TaskType, get_peft_model

from adapterkit.artifact import import_peft, load, verify
from adapterkit.backbone import Backbone
from tests import tiny
from tests.abuse.artifacts import GOLDEN, answered
from tests.artifact.mutations import CONFIG, TENSORS, VALUES, pack, unpack
from tests.tasks.conftest import ROWS as OF_KINDS

ROWS = [row["text"] for row in OF_KINDS["text-classification"]][:GOLDEN]
KIND = "text-classification"
LABELS = ["no", "perhaps", "yes"]
NEAR = 1e-4
CONFIGS: tuple[Any, ...] = (
    LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["query", "value"]),
    LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query", "dense"], rank_pattern={"query": 3},
               bias="all", exclude_modules=["pooler.dense"]),
    LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["key"], use_rslora=True, use_dora=True,
               alpha_pattern={"layer.1.attention.self.key": 5}),
    IA3Config(task_type=TaskType.SEQ_CLS),
)  # fmt: skip


class Imports:
    """An import of a damaged folder is refused, or answers as PEFT does with it."""

    judged = True

    def __init__(self, folder: Path) -> None:
        self._checkpoint = tiny.build("bert", folder / "bert")
        self._backbone = Backbone.load(str(self._checkpoint), dtype="float32", device="cpu")
        self._folders = [
            written(self._checkpoint, folder / f"peft-{number}", config) for number, config in enumerate(CONFIGS)
        ]
        self._expected = [self._by_peft(source) for source in self._folders]

    def attempt(self, number: int, folder: Path) -> str:
        place = number % len(self._folders)
        source = Path(shutil.copytree(self._folders[place], folder / "peft"))
        done = mutate(source, random.Random(number))
        out = answered(lambda: import_peft(source, folder / "out", self._backbone, kind=KIND, labels=LABELS))
        if out is None:
            assert not (folder / "out").exists(), f"{done}: refused, and something was written"
            return "refused"
        assert not done.startswith("drop_tensors"), f"{done}: imported, though tensors are missing"
        assert verify(out, self._backbone), f"{done}: imported, and not verified"
        with load(out, self._backbone) as adapted:
            features = adapted.task.encode([{"text": text} for text in ROWS], adapted.vocabulary, "predict").features
            with torch.inference_mode():
                ours = torch.cat(
                    [adapted(adapted.task.collate([each], adapted.vocabulary).inputs) for each in features]
                )
        try:
            theirs = self._by_peft(source)
        except Exception:  # noqa: BLE001 (what PEFT says of it is not ours to judge)
            assert torch.allclose(ours, self._expected[place], rtol=0, atol=NEAR), f"{done}: PEFT alone refuses it"
            return "as before, and PEFT refuses it"
        assert torch.allclose(ours, theirs, rtol=0, atol=NEAR), f"{done}: PEFT answers otherwise"
        return "as PEFT"

    def _by_peft(self, folder: Path) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(plain(self._checkpoint), str(folder)).eval()
        with torch.inference_mode():
            batches = [self._backbone.tokenizer(text, return_tensors="pt") for text in ROWS]
            return torch.cat([model(**batch).logits for batch in batches])


def plain(checkpoint: Path) -> Any:
    """The classifier as transformers alone loads it; its head is the same every time."""
    torch.manual_seed(0)
    return transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=len(LABELS)).eval()


def written(checkpoint: Path, folder: Path, config: Any) -> Path:
    """A folder that plain PEFT writes, every tensor of it random."""
    model = get_peft_model(plain(checkpoint), config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    return folder


def mutate(folder: Path, generator: random.Random) -> str:
    """Damage a folder of PEFT's in place. Returns what was done."""
    act = generator.choice(ACTS)
    return f"{act.__name__}: {act(folder, generator)}"


def drop_tensors(folder: Path, generator: random.Random) -> str:
    """All of them, those of one layer, those of one module, or one."""
    header, data = unpack((folder / TENSORS).read_bytes())
    names = [name for name in header if name != "__metadata__"]
    path = generator.choice([name for name in names if "lora_" in name or "ia3_" in name]).split(".")
    piece = generator.choice(["", "layer.0.", f".{path[-3]}.", ".".join(path[:-2]), ".".join(path)])
    _keep(folder, header, data, [name for name in names if piece not in name])
    return f"with {piece!r} in the name"


def edit_a_field(folder: Path, generator: random.Random) -> str:
    config = json.loads((folder / CONFIG).read_bytes())
    key = generator.choice([*config, *KNOWN])
    config[key] = generator.choice([*KNOWN.get(key, ()), *KNOWN.get(key, ()), *VALUES])
    if generator.random() < 0.1:
        del config[key]
    (folder / CONFIG).write_text(json.dumps(config))
    return f"{key} = {config.get(key, 'nothing')!r:.60}"


def reshape(folder: Path, generator: random.Random) -> str:
    """Another shape of the same bytes, none at all, or a rank that is cut."""
    header, data = unpack((folder / TENSORS).read_bytes())
    name = generator.choice([name for name in header if name != "__metadata__"])
    shape = header[name]["shape"]
    size = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
    new = generator.choice([shape[::-1], [size // 4], [*shape, 1], [1, *shape], [], [0]])
    header[name]["shape"] = new
    if new in ([], [0]):
        begin = header[name]["data_offsets"][0]
        header[name]["data_offsets"] = [begin, begin + 4 * (new == [])]
        left = {each: header[each] for each in header if each not in (name, "__metadata__")}
        chunks, position = [], 0
        for each in (header[name], *left.values()):
            begin, end = each["data_offsets"]
            chunks.append(data[begin:end])
            each["data_offsets"] = [position, position + end - begin]
            position += end - begin
        data = b"".join(chunks)
    (folder / TENSORS).write_bytes(pack(header, data))
    return f"{name} as {new}"


def rename_a_tensor(folder: Path, generator: random.Random) -> str:
    header, data = unpack((folder / TENSORS).read_bytes())
    name = generator.choice([name for name in header if name != "__metadata__"])
    new = generator.choice([name + "x", name.replace("layer.0", "layer.7"), "x." + name, name.upper(), "\x1b[2J", ""])
    header[new] = header.pop(name)
    (folder / TENSORS).write_bytes(pack(header, data))
    return f"{name} to {new!r}"


def change_values(folder: Path, generator: random.Random) -> str:
    """Zero, huge, infinite, not a number: in all of a tensor or in one place."""
    header, data = unpack((folder / TENSORS).read_bytes())
    name = generator.choice([name for name in header if name != "__metadata__"])
    begin, end = header[name]["data_offsets"]
    value = generator.choice([b"\0\0\0\0", b"\0\0\x7f\x7f", b"\0\0\xa0\x7f", b"\0\0\x80\x7f", b"\0\0\0\x5f"])
    count = generator.choice([1, (end - begin) // 4])
    (folder / TENSORS).write_bytes(pack(header, data[:begin] + value * count + data[begin + 4 * count :]))
    return f"{count} of {name} as {value!r}"


def damage_bytes(folder: Path, generator: random.Random) -> str:
    name = generator.choice([CONFIG, TENSORS])
    raw = bytearray((folder / name).read_bytes())
    position = generator.randrange(min(len(raw), 4096))
    way = generator.choice(["flip", "cut", "pad"])
    if way == "flip":
        raw[position] ^= 1 << generator.randrange(8)
    elif way == "cut":
        del raw[position:]
    else:
        raw += generator.randbytes(9)
    (folder / name).write_bytes(raw)
    return f"{way} {name} at {position}"


def hostile_bytes(folder: Path, generator: random.Random) -> str:
    name = generator.choice([CONFIG, TENSORS])
    text = generator.choice([b"", b"[" * 200_000, b"NaN", b'{"a":' * 50_000, b"\xff" * 16, b"9" * 100_000])
    (folder / name).write_bytes(text)
    return f"{name} = {text[:10]!r}"


KNOWN: dict[str, tuple[Any, ...]] = {
    "r": (1, 2, 3, 16, 10**9, 0, 1e308),
    "lora_alpha": (1, 16, 1e300, 0, -1, float("1e308")),
    "rank_pattern": ({"query": 2}, {"value": 16}, {"layer.0": 4}, {".*": 4}, {"(a+)+$": 2}),
    "alpha_pattern": ({"query": 2}, {"layer.0": 4}, {".*": 4}, {"nothing": 7}),
    "target_modules": (["query"], ["query", "value", "key"], "all-linear", ".*query", "(a+)+$", ["nothing"], []),
    "exclude_modules": (["value"], "query", ".*"),
    "layers_to_transform": ([0], 1, [0, 9], -1),
    "layers_pattern": ("layer", "(a+)+$", ["layer"]),
    "modules_to_save": (["classifier"], ["bert"], ["score"], None),
    "feedforward_modules": (["output.dense"], ["key"], []),
    "task_type": ("SEQ_CLS", "TOKEN_CLS", "CAUSAL_LM", None),
    "peft_type": ("LORA", "IA3", "LOHA", "PREFIX_TUNING"),
    "bias": ("none", "all", "lora_only"),
    "use_dora": (True, False),
    "use_rslora": (True, False),
    "fan_in_fan_out": (True,),
    "init_lora_weights": ("pissa", "olora", "gaussian", False),
    "inference_mode": (False,),
}

ACTS: tuple[Callable[[Path, random.Random], str], ...] = (
    drop_tensors, drop_tensors, edit_a_field, edit_a_field, edit_a_field, edit_a_field, reshape, rename_a_tensor,
    change_values, change_values, damage_bytes, hostile_bytes,
)  # fmt: skip


def _keep(folder: Path, header: dict[str, Any], data: bytes, names: list[str]) -> None:
    kept, chunks, position = {}, [], 0
    for name in names:
        begin, end = header[name]["data_offsets"]
        kept[name] = {**header[name], "data_offsets": [position, position + end - begin]}
        position += end - begin
        chunks.append(data[begin:end])
    (folder / TENSORS).write_bytes(pack({"__metadata__": {"format": "pt"}, **kept}, b"".join(chunks)))
