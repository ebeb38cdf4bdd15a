"""What people put before adapters without adapterkit, for benchmarks/service.py: the same LoRAs behind FastAPI.

    python benchmarks/service_peers.py KIND PORT TASKS

lock      PEFT: one model with every adapter; a lock, `set_adapter`, one row at a time
names     PEFT: one model; whatever waits is a batch with `adapter_names`
pipeline  one process for one task: a merged model in `transformers.pipeline`
"""

from __future__ import annotations

import queue
import sys
import threading
from concurrent.futures import Future
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from host_adapters import LABELS, MINILM

import adapterkit as ak


def model_of(tasks: int) -> tuple[Any, Any]:
    """A classifier of 77 labels with so many LoRAs of rank 8 on query and value, and its tokenizer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(ak.Backbone.load(MINILM, dtype="float32", device="cpu").folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(LABELS), dtype=torch.float32)
    config = LoraConfig("SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    tuned = get_peft_model(model, config, adapter_name="t0")
    for number in range(1, tasks):
        tuned.add_adapter(f"t{number}", config)
    return tuned.eval(), AutoTokenizer.from_pretrained(folder)


def answer(chances: torch.Tensor, task: str) -> dict[str, Any]:
    """An answer of the size of the service's."""
    place = int(chances.argmax())
    every = dict(zip(LABELS, chances.tolist(), strict=True))
    return {"answers": [{"answer": {"label": LABELS[place], "probabilities": every}, "task": task}]}


def locked(tasks: int) -> Any:
    """One row at a time."""
    model, tokenizer = model_of(tasks)
    lock = threading.Lock()

    def ask(task: str, text: str) -> dict[str, Any]:
        with lock, torch.inference_mode():
            model.set_adapter(task)
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        return answer(logits.softmax(-1), task)

    return ask


def named(tasks: int) -> Any:
    """Whatever waits is a batch, up to 64 rows."""
    model, tokenizer = model_of(tasks)
    waiting: queue.Queue[tuple[str, str, Future[dict[str, Any]]]] = queue.Queue()

    def work() -> None:
        while True:
            batch = [waiting.get()]
            while len(batch) < 64 and not waiting.empty():
                batch.append(waiting.get())
            inputs = tokenizer([text for _, text, _ in batch], padding=True, return_tensors="pt")
            with torch.inference_mode():
                chances = model(**inputs, adapter_names=[task for task, _, _ in batch]).logits.softmax(-1)
            for (task, _, future), row in zip(batch, chances, strict=True):
                future.set_result(answer(row, task))

    threading.Thread(target=work, daemon=True).start()

    def ask(task: str, text: str) -> dict[str, Any]:
        future: Future[dict[str, Any]] = Future()
        waiting.put((task, text, future))
        return future.result()

    return ask


def piped(tasks: int) -> Any:
    """One task alone, whichever is asked."""
    from transformers import pipeline

    model, tokenizer = model_of(1)
    alone = pipeline("text-classification", model=model.merge_and_unload(), tokenizer=tokenizer, top_k=None)
    lock = threading.Lock()

    def ask(task: str, text: str) -> dict[str, Any]:
        with lock:
            found = alone(text)
        return {"answers": [{"answer": found[0] if isinstance(found[0], list) else found, "task": task}]}

    return ask


def main() -> None:
    """Serve one of them."""
    kind, port, tasks = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ask, app = {"lock": locked, "names": named, "pipeline": piped}[kind](tasks), FastAPI()

    @app.post("/v1/predict")
    def predict(body: dict[str, Any]) -> dict[str, Any]:
        row = body["rows"][0]
        return ask(row["task"], row["text"])  # type: ignore[no-any-return]

    uvicorn.run(app, port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()
