"""Predicting in many threads while others mount, swap and unmount: every answer is one of the legal ones."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import adapterkit as ak
from adapterkit.errors import MountError
from tests.host.artifacts import WORDS, Recipe, differences
from tests.host.conftest import FolderOf

SECONDS = float(os.environ.get("ADAPTERKIT_THREADS_SECONDS", "3"))
"""How long the threads run; 30 for a thorough try."""

FIRST = {
    "intent": Recipe("text-classification", "lora"),
    "tags": Recipe("token-classification", "houlsby"),
    "wide": Recipe("text-classification", "lora-all-linear"),
}
SECOND = {
    "intent": Recipe("text-classification", "lora", seed=9),
    "tags": Recipe("token-classification", "lora", seed=9),
    "wide": Recipe("text-classification", "none", seed=9),
}


def test_every_answer_is_that_of_a_version_that_was_mounted(
    tiny_backbones: Mapping[str, Any], folder_of: FolderOf
) -> None:
    texts = [" ".join(WORDS[:length]) for length in (1, 5, 12)]
    legal: dict[tuple[str, str], list[Any]] = {}
    with ak.Host(tiny_backbones["bert"]) as calm:
        for recipes in (FIRST, SECOND):
            for name, recipe in recipes.items():
                calm.mount(name, folder_of("bert", recipe))
                for text in texts:
                    legal.setdefault((name, text), []).extend(calm.predict([(name, {"text": text})]))
                calm.unmount(name)
    host = ak.Host(tiny_backbones["bert"], slots=2)
    for name, recipe in FIRST.items():
        host.mount(name, folder_of("bert", recipe))
    over = time.monotonic() + SECONDS
    wrong: list[str] = []
    done = {"answers": 0, "changes": 0}

    def predict(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < over and not wrong:
            rows = [(chance.choice(list(FIRST)), chance.choice(texts)) for _ in range(chance.randint(1, 6))]
            try:
                answers = host.predict([(name, {"text": text}) for name, text in rows], batch_size=chance.randint(1, 8))
            except MountError:
                continue  # it was unmounted before the call began
            for row, answer in zip(rows, answers, strict=True):
                if all(differences(answer, one, 1e-4) for one in legal[row]):
                    wrong.append(f"{row}: {answer}")
            done["answers"] += len(rows)

    def change(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < over and not wrong:
            name = chance.choice(list(FIRST))
            folder = folder_of("bert", chance.choice([FIRST, SECOND])[name])
            act = chance.choice([host.swap, host.mount, lambda name, _: host.unmount(name)])
            try:
                act(name, folder)
            except MountError:
                continue
            done["changes"] += 1

    def guarded(work: Any, seed: int) -> None:
        try:
            work(seed)
        except BaseException as error:  # noqa: BLE001 - whatever a thread dies of is what the test is after
            wrong.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=guarded, args=(predict, seed)) for seed in range(8)]
    threads += [threading.Thread(target=guarded, args=(change, seed)) for seed in range(100, 102)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    host.close()

    assert wrong == []
    assert done["answers"] > 0
    assert done["changes"] > 0
