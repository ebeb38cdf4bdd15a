"""Some of what `make interop` tries of PEFT's folders: the ones that need more than names and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.interop import peft
from tests.interop.worlds import Worlds

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT and transformers talk about heads that they initialise
TRIED = (
    "modernbert: LoRA, token-classification",
    "t5: LoRA, text-classification",
    "bert: PiSSA, as trained",
    "bert: OLoRA, as trained",
    "bert: the pooler saved whole",
    "bert: LoRA on every dense, the pooler's too",
    "llama: a folder by unsloth",
    "llama: names with _fsdp_wrapped_module.",
    "llama: embeddings trained",
    "llama: norms trained",
    "llama: LoRA on embeddings",
    "llama: tokens added",
)


class Lent(Worlds):
    """The suite's own checkpoints."""

    def __init__(self, folder: Path, folders: Any, backbones: Any) -> None:
        super().__init__(folder)
        self._folders, self._backbones = folders, backbones

    def checkpoint(self, family: str) -> Path:
        return Path(self._folders[family])

    def backbone(self, family: str) -> Any:
        return self._backbones[family]


@pytest.mark.parametrize("name", TRIED)
def test_a_folder_of_pefts_is_imported_with_its_answers_or_refused_with_the_reason(
    tmp_path: Path, tiny_folders: Any, tiny_backbones: Any, name: str
) -> None:
    case = peft.cases()[name]
    found = peft.tried(Lent(tmp_path, tiny_folders, tiny_backbones), name, case, tmp_path / "folder")
    assert found.outcome == ("equal" if case.refused is None else "refused"), found


def test_there_are_at_least_sixty_cases() -> None:
    assert len(peft.cases()) >= 60
