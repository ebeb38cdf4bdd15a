"""A seeded generator of damaged and hostile artifacts.

Half of the edits are left as a flipped disk bit or a careless editor leaves them. The other half are signed again, as
somebody would who wants them believed: digests and sizes in the manifest are made to fit.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from adapterkit.manifest import dump_json

MANIFEST, CONFIG, TENSORS, CARD = "adapterkit.json", "adapter_config.json", "adapter_model.safetensors", "README.md"
FILES = (MANIFEST, CONFIG, TENSORS)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 8, 10**9, 2**53, 2**63 - 1, -(2**63), 0.5, -1.5, 1e300, "", "x",
    "../../etc/passwd", "/etc/passwd", "(a+)+$", ".*", "os.system", "a" * 5000, "\x00", "𝔘", "<script>", [], [1],
    ["x"], ["../x"], {}, {"x": 1},
    {"base_model": "x"}, [[[[[]]]]], [None] * 50,
)  # fmt: skip


def mutate(folder: Path, generator: random.Random) -> str:
    """Damage an artifact in place. Returns what was done."""
    act = generator.choice(ACTS)
    return f"{act.__name__}: {act(folder, generator)}"


def resign(folder: Path, manifest: dict[str, Any] | None = None) -> None:
    """Make the manifest's digests and sizes fit the files as they are now."""
    manifest = json.loads((folder / MANIFEST).read_bytes()) if manifest is None else manifest
    raw = {name: (folder / name).read_bytes() for name in (CONFIG, TENSORS, CARD)}
    manifest["files"] = {
        name: {"size_bytes": len(content), "sha256": sha256(content).hexdigest()} for name, content in raw.items()
    }
    manifest["size_bytes"] = sum(map(len, raw.values()))
    manifest.pop("sha256", None)
    manifest["sha256"] = sha256(dump_json(manifest)).hexdigest()
    (folder / MANIFEST).write_bytes(dump_json(manifest))


def unpack(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def pack(header: Any, data: bytes) -> bytes:
    """A safetensors file of any header and data."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def flip_a_bit(folder: Path, generator: random.Random) -> str:
    name = generator.choice(FILES)
    raw = bytearray((folder / name).read_bytes())
    position = generator.randrange(len(raw))
    raw[position] ^= 1 << generator.randrange(8)
    (folder / name).write_bytes(raw)
    return f"{name} at {position}"


def flip_a_bit_of_the_tensors_and_sign(folder: Path, generator: random.Random) -> str:
    """Only in the header: other values, well signed, are another adapter, and nobody can tell."""
    raw = bytearray((folder / TENSORS).read_bytes())
    position = generator.randrange(8 + int.from_bytes(raw[:8], "little"))
    raw[position] ^= 1 << generator.randrange(8)
    (folder / TENSORS).write_bytes(raw)
    resign(folder)
    return f"at {position}"


def truncate(folder: Path, generator: random.Random) -> str:
    name = generator.choice(FILES)
    raw = (folder / name).read_bytes()
    keep = generator.choice([0, 1, 7, 8, generator.randrange(len(raw)), len(raw) - 1])
    (folder / name).write_bytes(raw[:keep])
    if name != MANIFEST and generator.random() < 0.5:
        resign(folder)
    return f"{name} to {keep}"


def pad(folder: Path, generator: random.Random) -> str:
    name = generator.choice(FILES)
    tail = generator.choice([b"\0", b" ", b"\n", b"{}", b"\0" * 1000, generator.randbytes(9)])
    raw = (folder / name).read_bytes()
    (folder / name).write_bytes(raw + tail if generator.random() < 0.5 else tail + raw)
    if name != MANIFEST and generator.random() < 0.5:
        resign(folder)
    return f"{name} with {len(tail)}"


def sparse(folder: Path, generator: random.Random) -> str:
    name = generator.choice(FILES)
    os.truncate(folder / name, generator.choice([3 << 30, 1 << 40]))
    return name


def edit_json(folder: Path, generator: random.Random) -> str:
    """Another value, no value, or one more, anywhere in a JSON file."""
    name = generator.choice([MANIFEST, CONFIG])
    value = json.loads((folder / name).read_bytes())
    done = _edit(value, generator)
    return _store(folder, name, value, generator, done)


def edit_a_known_field(folder: Path, generator: random.Random) -> str:
    """A value that means something to somebody, where it does."""
    name, path, values = generator.choice(KNOWN)
    value = json.loads((folder / name).read_bytes())
    target = value
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = generator.choice(values)
    return _store(folder, name, value, generator, f"{'.'.join(map(str, path))} = {target[path[-1]]!r:.40}")


def edit_header(folder: Path, generator: random.Random) -> str:
    header, data = unpack((folder / TENSORS).read_bytes())
    field = header[generator.choice([name for name in header if name != "__metadata__"])]
    edits: list[tuple[str, Any]] = [
        ("dtype", generator.choice(["F64", "U8", "F32", "F16", "I64", 1, None, "bf16", "F8_E4M3"])),
        ("shape", generator.choice([[-1, 4], [2**40, 2**40], [0], [], [1.0], "x", [2**63], [1] * 9, [True], [4, 32]])),
        ("data_offsets", generator.choice([[0, 2**62], [-1, 1], [5, 3], [0, 1, 2], [0], "x", [0, 64], [1.0, 2.0]])),
    ]
    key, value = generator.choice(edits)
    field[key] = value
    (folder / TENSORS).write_bytes(pack(header, data))
    resign(folder)
    return f"{key} = {value!r:.40}"


def swap_tensors(folder: Path, generator: random.Random) -> str:
    """Two names change places: other shapes are noticed; equal shapes, not signed, by their digest."""
    header, data = unpack((folder / TENSORS).read_bytes())
    names = [name for name in header if name != "__metadata__"]
    first, second = generator.sample(names, 2)
    alike = header[first]["shape"] == header[second]["shape"]
    header[first], header[second] = header[second], header[first]
    (folder / TENSORS).write_bytes(pack(header, data))
    if not alike:
        resign(folder)
    return f"{first}, {second}"


def add_a_tensor(folder: Path, generator: random.Random) -> str:
    """A backbone tensor, a second head, a name that leads somewhere else."""
    header, data = unpack((folder / TENSORS).read_bytes())
    name = generator.choice(
        [
            "base_model.model.bert.encoder.layer.0.attention.self.query.weight",
            "base_model.model.bert.encoder.layer.0.attention.self.query.base_layer.weight",
            "base_model.model.bert.embeddings.word_embeddings.weight",
            "base_model.model.bert.encoder.layer.0.output.dense.bias",
            "base_model.model.bert.encoder.layer.9.attention.self.query.lora_A.weight",
            "base_model.model.bert.encoder.layer.0.attention.self.key.lora_A.weight",
            "base_model.model.classifier.weight2",
            "base_model.model.cls.predictions.bias",
            "bert.pooler.dense.bias",
            "base_model.model.../x",
            "base_model.model.classifier..weight",
            "base_model.model.adapterkit_head.output.classifier.weight",
        ]
    )
    header[name] = {"dtype": "BF16", "shape": [2, 32], "data_offsets": [len(data), len(data) + 128]}
    (folder / TENSORS).write_bytes(pack(header, data + b"\0" * 128))
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if generator.random() < 0.5:
        manifest["head_tensors"] = sorted([*manifest["head_tensors"], name.removeprefix("base_model.model.")])
    resign(folder, manifest)
    return name


def drop_a_tensor(folder: Path, generator: random.Random) -> str:
    header, data = unpack((folder / TENSORS).read_bytes())
    last = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"][1])
    begin = header.pop(last)["data_offsets"][0]
    (folder / TENSORS).write_bytes(pack(header, data[:begin]))
    resign(folder)
    return last


def poison_a_value(folder: Path, generator: random.Random) -> str:
    """NaN or infinity in bfloat16, well signed."""
    header, data = unpack((folder / TENSORS).read_bytes())
    position = 2 * generator.randrange(len(data) // 2)
    value = generator.choice([b"\xc0\x7f", b"\x80\x7f", b"\x80\xff"])
    (folder / TENSORS).write_bytes(pack(header, data[:position] + value + data[position + 2 :]))
    resign(folder)
    return f"at {position}"


def change_values_and_sign(folder: Path, generator: random.Random) -> str:
    """Other values, some of them huge, well signed: another adapter, which only its golden rows can tell."""
    header, data = unpack((folder / TENSORS).read_bytes())
    name = generator.choice([name for name in header if name != "__metadata__"])
    begin, end = header[name]["data_offsets"]
    way, value = generator.choice(
        [("zero", b"\0\0"), ("huge", b"\x7f\x7f"), ("huge", b"\x00\x7e"), ("ones", b"\x80\x3f")]
    )
    share = generator.choice([2, (end - begin) // 2 // 2 * 2, end - begin])
    (folder / TENSORS).write_bytes(pack(header, data[:begin] + value * (share // 2) + data[begin + share :]))
    resign(folder)
    return f"{way} in {share // 2} of {name}"


def double_a_key(folder: Path, generator: random.Random) -> str:
    name = generator.choice([MANIFEST, CONFIG])
    raw = (folder / name).read_bytes()
    key = generator.choice(list(json.loads(raw)))
    (folder / name).write_bytes(raw.replace(b"{", b"{" + json.dumps(key).encode() + b": 1,", 1))
    if name == CONFIG:
        resign(folder)
    return f"{name} {key}"


def hostile_json(folder: Path, generator: random.Random) -> str:
    name = generator.choice([MANIFEST, CONFIG])
    text = generator.choice(
        [b"[" * 200_000, b'{"a":' * 50_000, b"NaN", b"-Infinity", b"1e999", b"9" * 100_000, b'"\\ud800"', b"\xff", b""]
    )
    (folder / name).write_bytes(text)
    if name == CONFIG:
        resign(folder)
    return f"{name} = {text[:10]!r}"


def link_a_file(folder: Path, generator: random.Random) -> str:
    name = generator.choice([*FILES, CARD])
    target = generator.choice(["/etc/passwd", "/dev/zero", "../elsewhere", name, CONFIG, "/dev/stdin"])
    (folder / name).unlink()
    (folder / name).symlink_to(target)
    return f"{name} -> {target}"


def replace_a_file(folder: Path, generator: random.Random) -> str:
    name = generator.choice([*FILES, CARD])
    (folder / name).unlink()
    make = generator.choice([os.mkdir, os.mkfifo, None])
    if make is not None:
        make(folder / name)
    return f"{name} by {make}"


def add_a_file(folder: Path, generator: random.Random) -> str:
    name = generator.choice(["modeling.py", "adapter_model.bin", "a\nb", ".hidden", "tokenizer.json", "__init__.py"])
    (folder / name).write_bytes(b"import os")
    return name


def exchange_files(folder: Path, generator: random.Random) -> str:
    first, second = generator.sample([*FILES, CARD], 2)
    a, b = (folder / first).read_bytes(), (folder / second).read_bytes()
    (folder / first).write_bytes(b)
    (folder / second).write_bytes(a)
    return f"{first}, {second}"


KNOWN: tuple[tuple[str, tuple[Any, ...], tuple[Any, ...]], ...] = (
    (CONFIG, ("target_modules",), (".*", "(a+)+$", "all-linear", ["(.*)"], ["query"], [], ["bert"], ["classifier"])),
    (CONFIG, ("auto_mapping",), ({"base_model_class": "os", "parent_library": "os"}, None)),
    (CONFIG, ("modules_to_save",), (None, ["bert"], ["(.*)"], ["classifier", "bert.encoder"], "classifier")),
    (CONFIG, ("rank_pattern",), ({"(a+)+$": 4}, {"query": 10**9}, {"query": 3}, [])),
    (CONFIG, ("r",), (0, -1, 3, 10**9, 2.0, "2", True)),
    (CONFIG, ("lora_alpha",), (1, 1e300, "x", -1)),
    (CONFIG, ("peft_type",), ("IA3", "BOTTLENECK", "XLORA", None)),
    (CONFIG, ("layers_pattern",), ("(a+)+$",)),
    (CONFIG, ("megatron_core",), ("os.system",)),
    (MANIFEST, ("format",), (0, 2, "1", True, None)),
    (MANIFEST, ("method", "rank"), (1, 3, 65536, 10**9, 0, 2.0)),
    (MANIFEST, ("method", "alpha"), (1e9, 1e300, 8.0, 0.0)),
    (MANIFEST, ("method", "rank_pattern"), ({"attention.query": 65536}, {"(a+)+": 2}, {"attention.query": 3})),
    (MANIFEST, ("method", "sites"), (["(.*)"], "all-linear", ["attention.key"], [])),
    (MANIFEST, ("method", "layers"), ([0], [10**9], [-1], [0, 0])),
    (MANIFEST, ("method", "kind"), ("bottleneck", "none", "ia3")),
    (MANIFEST, ("method", "bias"), ("all", "lora_only")),
    (MANIFEST, ("method", "dora"), (True,)),
    (MANIFEST, ("head", "kind"), ("linear", "mlp", "auto", "os.system")),
    (MANIFEST, ("head", "hidden"), (5, 10**9)),
    (MANIFEST, ("head_tensors",), ([], ["classifier.weight"], ["../x"], ["bert.embeddings.word_embeddings.weight"])),
    (MANIFEST, ("task", "kind"), ("causal-lm", "masked-lm", "token-classification", "x", None)),
    (MANIFEST, ("task", "labels"), (["a"], [], None, ["a"] * 3, list("abcd"), [1, 2, 3], ["a"] * 200_000)),
    (MANIFEST, ("backbone", "fingerprint"), ("0" * 64, "x", None)),
    (MANIFEST, ("backbone", "contract", "hidden_size"), (64, "32", 10**9)),
    (MANIFEST, ("backbone", "contract", "tokenizer"), ("0" * 64,)),
    (MANIFEST, ("dtype",), ("float32", "int8")),
    (MANIFEST, ("golden", "rows"), ([], [{}], [{"row": {}, "prediction": None, "numbers": []}])),
    (MANIFEST, ("files",), ({}, {"../../x": {"size_bytes": 1, "sha256": "0" * 64}})),
    (MANIFEST, ("seed",), (-1, 2**63, "0")),
)  # fmt: skip

ACTS: tuple[Callable[[Path, random.Random], str], ...] = (
    flip_a_bit, flip_a_bit_of_the_tensors_and_sign, truncate, pad, sparse, edit_json, edit_json, edit_json,
    edit_a_known_field, edit_a_known_field, edit_a_known_field, edit_header, edit_header, swap_tensors, add_a_tensor,
    add_a_tensor, drop_a_tensor, poison_a_value, change_values_and_sign, double_a_key, hostile_json, link_a_file,
    replace_a_file, add_a_file, exchange_files,
)  # fmt: skip


def _edit(value: Any, generator: random.Random) -> str:
    """Change one place in nested JSON, in place."""
    places: list[tuple[Any, Any]] = []
    stack = [value]
    while stack:
        item = stack.pop()
        for key in item if isinstance(item, dict) else range(len(item)):
            places.append((item, key))
            if isinstance(item[key], dict | list):
                stack.append(item[key])
    holder, key = generator.choice(places)
    way = generator.choice(["replace", "replace", "drop", "rename"])
    if way == "replace" or isinstance(holder, list):
        holder[key] = copy.deepcopy(generator.choice(VALUES))
        return f"{key} = {holder[key]!r:.40}"
    moved = holder.pop(key)
    if way == "rename":
        holder[f"{key}_"] = moved
    return f"{way} {key}"


def _store(folder: Path, name: str, value: Any, generator: random.Random, done: str) -> str:
    signed = generator.random() < 0.7
    if name == MANIFEST:
        if signed and isinstance(value, dict):
            for key in ("files", "size_bytes", "sha256"):
                if key in done.split(" = ")[0].split(" "):
                    signed = False
        if signed:
            value.pop("sha256", None)
            value["sha256"] = sha256(dump_json(value)).hexdigest()
        (folder / name).write_bytes(json.dumps(value, sort_keys=True).encode())
        return f"{name}: {done}, signed {signed}"
    (folder / name).write_bytes(json.dumps(value, sort_keys=True).encode())
    if signed:
        resign(folder)
    return f"{name}: {done}, signed {signed}"
