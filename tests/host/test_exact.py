from __future__ import annotations

import torch

from adapterkit.host import Host
from adapterkit.recipe import LoraMethod
from tests.laws import worlds

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "my", "card", "was", "lost"]


def test_an_exact_host_answers_a_batch_as_each_row_alone_in_every_bit_even_in_bfloat16(tmp_path, fresh_backbone):
    backbone = fresh_backbone("llama", dtype="bfloat16")
    folders = {}
    for kind in ("causal-lm", "text-classification"):
        with worlds.adapter(backbone, kind, LoraMethod(rank=2)) as adapted:
            worlds.disturb(adapted, 0.3)
            folders[kind] = worlds.write(tmp_path / kind, adapted)
    rows = [(kind, {"text": " ".join(WORDS[: 2 + 2 * number])}) for number in range(6) for kind in folders]
    with Host(backbone, exact=True) as host, Host(backbone) as plain:
        for kind, folder in folders.items():
            host.mount(kind, folder)
            plain.mount(kind, folder)
        alone = [plain.predict([row])[0] for row in rows]
        assert host.predict(rows) == alone == host.predict(rows[::-1])[::-1]
        texts = [row for row in rows if row[0] == "causal-lm"]
        assert host.generate(texts) == [plain.generate([row])[0] for row in texts]
        batch = {"input_ids": torch.randint(10, 60, (4, 7), generator=torch.Generator().manual_seed(0))}
        names = ["text-classification"] * 4
        found = host.logits(batch, names)
        each = [plain.logits({"input_ids": batch["input_ids"][i : i + 1]}, names[:1])[0] for i in range(4)]
        assert all(map(torch.equal, found, each))
        states = zip(
            host.features([row[1]["text"] for row in texts]),
            [plain.features([row[1]["text"]])[0] for row in texts],
            strict=True,
        )
        assert all(torch.equal(one, other) for one, other in states)
