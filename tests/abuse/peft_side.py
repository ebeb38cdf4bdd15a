"""The same damaged artifacts through plain PEFT, which reads two of their four files: what becomes of them there."""

from __future__ import annotations

import random
import shutil
import warnings
from pathlib import Path

import torch
import transformers
from peft import PeftModel

from adapterkit.backbone import Backbone
from adapterkit.recipe import HeadSettings, LoraMethod
from tests import tiny
from tests.abuse.artifacts import GOLDEN, make_world
from tests.artifact.mutations import mutate
from tests.tasks.conftest import ROWS


class ArtifactsInPeft:
    """PEFT on what `Artifacts` gives to load and mount; counted, not judged."""

    judged = False
    most_seconds = 5.0

    def __init__(self, folder: Path) -> None:
        self._checkpoint = tiny.build("bert", folder / "bert")
        backbone = Backbone.load(str(self._checkpoint), dtype="float32", device="cpu")
        self._tokenizer = backbone.tokenizer
        method, head = LoraMethod(rank=2, alpha=4.0), HeadSettings(kind="family")
        self._whole = make_world(folder / "artifact", backbone, "text-classification", method, head).folder
        self._labels = len({row["label"] for row in ROWS["text-classification"]})
        self._rows = [row["text"] for row in ROWS["text-classification"]][:GOLDEN]
        self._expected = self._logits(self._whole)

    def attempt(self, number: int, folder: Path) -> str:
        damaged = Path(shutil.copytree(self._whole, folder / "artifact"))
        mutate(damaged, random.Random(number))
        logits = self._logits(damaged)
        if torch.allclose(logits, self._expected, rtol=0, atol=5e-3):
            return "same answers"
        return "other answers" if bool(torch.isfinite(logits).all()) else "answers that are no numbers"

    def _logits(self, folder: Path) -> torch.Tensor:
        torch.manual_seed(0)
        classifier = transformers.AutoModelForSequenceClassification
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = classifier.from_pretrained(self._checkpoint, num_labels=self._labels)
            model = PeftModel.from_pretrained(plain, str(folder)).eval()
        with torch.inference_mode():
            batches = [self._tokenizer(text, return_tensors="pt") for text in self._rows]
            return torch.cat([model(**batch).logits for batch in batches])
