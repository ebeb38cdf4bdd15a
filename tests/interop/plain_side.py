"""Loads artifacts of ours with plain PEFT and transformers, in a process that cannot import adapterkit.

python plain_side.py JOBS.json     # what each job gave is printed as one line of JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.modules["adapterkit"] = None  # type: ignore[assignment]

import torch  # noqa: E402
import transformers  # noqa: E402
from peft import PeftModel  # noqa: E402


def answer(job: dict[str, Any]) -> list[Any]:
    auto = getattr(transformers, job["class"])
    labels = {"num_labels": job["labels"]} if job["labels"] else {}
    if job["merged"]:
        model = auto.from_pretrained(job["folder"], dtype=torch.float32)
    else:
        plain = auto.from_pretrained(job["checkpoint"], dtype=torch.float32, **labels)
        plain.config.pad_token_id = job["pad"]
        model = PeftModel.from_pretrained(plain, job["folder"])
    found = []
    for row in job["inputs"]:
        with torch.inference_mode():
            output = model.eval()(**{name: torch.tensor(value) for name, value in row.items()})
        spans = "start_logits" in output
        logits = torch.stack([output.start_logits, output.end_logits], -1) if spans else output.logits
        found.append(logits.double().tolist())
    return found


def main() -> None:
    for job in json.loads(Path(sys.argv[1]).read_text()):
        try:
            print(json.dumps({"name": job["name"], "logits": answer(job)}), flush=True)
        except Exception as error:  # noqa: BLE001 (a job that fails is a finding)
            print(json.dumps({"name": job["name"], "error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
