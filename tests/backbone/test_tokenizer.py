"""Tokenizers told apart by how they read, and given a pad token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import AddedToken, normalizers

from adapterkit.backbone import tokenizer_digest
from adapterkit.backbone.tokenizer import load_tokenizer
from adapterkit.errors import BackboneError
from tests import tiny


@pytest.fixture
def tokenizer(tiny_folders: Any) -> Any:
    return transformers.AutoTokenizer.from_pretrained(tiny_folders["bert"])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_using_a_tokenizer_does_not_change_its_digest(tiny_backbones: Any, family: str) -> None:
    tokenizer = tiny_backbones[family].tokenizer
    before = tokenizer_digest(tokenizer)
    tokenizer(["one", "one two three"], padding="max_length", truncation=True, max_length=3, return_tensors="pt")
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    assert tokenizer_digest(tokenizer) == before == tiny_backbones[family].contract.tokenizer
    tokenizer.padding_side = side


def test_a_saved_tokenizer_has_the_digest_it_had(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer(["a b c"], truncation=True, max_length=3)
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_digest(transformers.AutoTokenizer.from_pretrained(tmp_path)) == tokenizer_digest(tokenizer)


def test_another_normalisation_is_another_digest(tokenizer: Any) -> None:
    before = tokenizer_digest(tokenizer)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    assert tokenizer_digest(tokenizer) != before


def test_an_added_token_is_another_digest(tokenizer: Any) -> None:
    before = tokenizer_digest(tokenizer)
    tokenizer.add_tokens(["zebra"])
    assert tokenizer_digest(tokenizer) != before


def test_another_role_for_a_token_is_another_digest(tokenizer: Any) -> None:
    before = tokenizer_digest(tokenizer)
    tokenizer.mask_token = "[UNK]"
    assert tokenizer_digest(tokenizer) != before


def test_a_unigram_tokenizer_with_other_scores_is_another_one(tiny_folders: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folders["t5"], tmp_path / "t5")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"][20][1] -= 1.0
    (folder / "tokenizer.json").write_text(json.dumps(content))
    first, other = (transformers.AutoTokenizer.from_pretrained(path) for path in (tiny_folders["t5"], folder))
    assert first.get_vocab() == other.get_vocab()
    assert tokenizer_digest(first) != tokenizer_digest(other)


def without_pad(folder: Path, **names: str | None) -> Path:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": None} | names))
    return folder


@pytest.mark.parametrize(
    ("names", "config_pad", "expected"),
    [
        ({}, None, "<unk>"),
        ({"unk_token": None}, None, "</s>"),
        ({"unk_token": "</s>"}, None, "</s>"),
        ({"unk_token": None, "eos_token": None}, None, "<s>"),
        ({}, 2, "</s>"),
        ({}, 10**6, "<unk>"),
    ],
)
def test_a_decoders_pad_token_is_one_that_it_has(
    tiny_folders: Any, tmp_path: Path, names: dict[str, str | None], config_pad: int | None, expected: str
) -> None:
    folder = without_pad(Path(shutil.copytree(tiny_folders["llama"], tmp_path / "llama")), **names)
    tokenizer = load_tokenizer(folder, causal=True, embedding_rows=360, config_pad=config_pad, remote=False)
    assert tokenizer.pad_token == expected
    assert len(tokenizer) == 360


def test_a_tokenizer_with_nothing_to_pad_with_is_refused(tiny_folders: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folders["llama"], tmp_path / "llama"))
    without_pad(folder, unk_token=None, eos_token=None, bos_token=None)
    with pytest.raises(BackboneError, match="no unknown, end or begin token"):
        load_tokenizer(folder, causal=True, embedding_rows=360, config_pad=None, remote=False)


def test_a_tokenizer_in_python_counts_with_its_settings_and_with_how_its_tokens_were_added() -> None:
    def digest(stripping: bool, **settings: Any) -> str:
        tokenizer = transformers.ByT5Tokenizer(extra_ids=4, **settings)
        tokenizer.add_tokens(AddedToken("<mark>", lstrip=stripping))
        return tokenizer_digest(tokenizer)

    assert digest(True) == digest(True)
    assert len({digest(True), digest(False), digest(True, do_lower_case=True)}) == 3


def test_what_is_cleaned_up_of_a_decoded_text_counts(tiny_folders: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folders["bert"])
    before = tokenizer_digest(tokenizer)
    tokenizer.clean_up_tokenization_spaces = not tokenizer.clean_up_tokenization_spaces
    assert tokenizer_digest(tokenizer) != before
