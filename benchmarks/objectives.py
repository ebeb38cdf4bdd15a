"""What does each objective do to a representation: to its probe, to what it gains over the head alone, to another set?

    export OMP_NUM_THREADS=1 ADAPTERKIT_DATA=…
    python benchmarks/objectives.py train 0 1 2   # some 6 minutes a seed; what stands is not trained again
    python benchmarks/objectives.py look 0 1 2    # into results/objectives.json
    python benchmarks/objectives.py table         # as markdown on standard output

all-MiniLM-L6-v2 with the recipe of BANKING77 (LoRA of rank 8 on query and value, a linear head) on few rows of two
sets: 4 of each of 77 intents, and 20 of each of 16 articles that a question of SQuAD is about. A seed draws the rows
that are learned from and all else of the training; 500 test rows of each set are the same for all. `head` is what
`attribute` trains: the recipe without its method. `joint` is one adapter that learns both sets in one run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import adapterkit as ak
from adapterkit.evaluation.outcome import ask
from adapterkit.evaluation.probing.asked import Looking
from adapterkit.evaluation.probing.measuring import measure
from adapterkit.evaluation.probing.side_by_side import look_into
from adapterkit.evaluation.probing.subjects import subjects_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "objectives.json"
SETS = ("banking77", "articles")
EPOCHS, TESTED, RESAMPLES = 6, 500, 1000
OBJECTIVES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "contrast": {"kind": "supervised-contrastive", "weight": 0.5},
    "contrast-alone": {"kind": "supervised-contrastive", "alone": True},
    "simcse": {"kind": "simcse", "weight": 0.1},
    "near-backbone": {"kind": "near-backbone", "weight": 1.0, "distance": "cosine"},
    "near-start": {"kind": "near-start", "weight": 0.1},
}
RUNS = ("head", *OBJECTIVES, "joint")
Seeds = dict[str, dict[str, dict[str, Any]]]
"""Seed -> set -> run -> what was found."""
FIGURES = ("alignment", "uniformity", "rank_me")


def read_rows(name: str, part: str) -> list[dict[str, str]]:
    """Texts with a label each."""
    folder = Path(os.environ["ADAPTERKIT_DATA"]) / ("banking77" if name == "banking77" else "squad_small")
    parts = [part] if name == "banking77" else ["train", "validation"]  # each has articles of its own
    lines = [line for part in parts for line in (folder / f"{part}.jsonl").read_text("utf-8").splitlines()]
    rows = [json.loads(line) for line in lines]
    if name == "banking77":
        return [{"text": row["text"], "label": str(row["label"])} for row in rows]
    return [{"text": row["question"], "label": row["title"]} for row in rows]


def written(folder: Path, name: str, seed: int) -> dict[str, str]:
    """The files that one seed learns from and is tested on."""
    rows = read_rows(name, "train")
    if name == "banking77":
        rest, each = read_rows(name, "test"), 4
    else:
        order = np.random.default_rng(0).permutation(len(rows))
        rest, rows, each = [rows[i] for i in order[:700]], [rows[i] for i in order[700:]], 20
    taken: dict[str, list[dict[str, str]]] = {}
    for place in np.random.default_rng(seed).permutation(len(rows)):
        own = taken.setdefault(rows[place]["label"], [])
        if len(own) < each:
            own.append(rows[place])
    learned = [row for label in sorted(taken) for row in taken[label]]
    known = [row for row in rest if row["label"] in taken]
    drawn = np.random.default_rng(0).permutation(len(known))[:TESTED]
    files = {}
    for part, chosen in (("train", learned), ("test", [known[i] for i in drawn])):
        file = folder / "data" / f"{name}-{part}{seed if part == 'train' else ''}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
        files[part] = str(file)
    return files


def recipe(files: dict[str, str], seed: int, **changed: Any) -> dict[str, Any]:
    """The recipe of BANKING77 on few rows."""
    told = ak.load_recipe(HERE.parent / "recipes" / "banking77.yaml").to_dict()
    told["data"] = {**files, "validation": None, "columns": {"text": "text", "label": "label"}}
    told["training"] |= {"epochs": EPOCHS, "batch_size": 32, "seed": seed, "trackers": [], "keep_best": False}
    return told | changed


def train(folder: Path, seed: int, backbone: ak.Backbone, until: float) -> None:
    """All runs of a seed that do not stand yet; none begins after `until`, by the clock."""
    files = {name: written(folder, name, seed) for name in SETS}
    for name in SETS:
        for run in RUNS[:-1]:
            output = folder / f"seed{seed}" / name / run
            if (output / "adapterkit.json").is_file() or time.monotonic() > until:
                continue
            started = time.process_time()
            told = recipe(files[name], seed, output=str(output))
            if run == "head":
                told["method"] = {"kind": "none"}
            told["training"]["objective"] = OBJECTIVES.get(run)
            ak.train(told, backbone=backbone, quiet=True, overwrite=True)
            print(seed, name, run, f"{time.process_time() - started:.0f} s", flush=True)
    joint = folder / f"seed{seed}" / SETS[0] / "joint" / "adapterkit.json"
    if not joint.is_file() and time.monotonic() < until:
        started, output = time.process_time(), folder / f"seed{seed}" / "course"
        stages = {name: {"data": files[name]} for name in SETS}
        course = {"recipe": recipe(files[SETS[0]], seed), "stages": stages, "ways": ["joint"], "output": str(output)}
        ak.stream(course, backbone=backbone, quiet=True, overwrite=True, resamples=0)
        for name in SETS:
            shutil.move(output / "joint" / name, folder / f"seed{seed}" / name / "joint")
        print(seed, "joint", f"{time.process_time() - started:.0f} s", flush=True)


def right_in(run: Path, file: str, backbone: ak.Backbone) -> str:
    """1 for each test row that is answered right, 0 for each other."""
    judged = ask(run, file, backbone=backbone).answers().compared.judged
    assert judged is not None
    return as_digits(judged.right)


def as_digits(right_N: Any) -> str:
    """Of each row, whether it is right, in a character."""
    return "".join(str(int(right)) for right in right_N)


def look(folder: Path, seed: int, backbone: ak.Backbone) -> dict[str, Any]:
    """What the runs of a seed answer, and what their last layers know: of their own set, and of the other one."""
    found: dict[str, Any] = {}
    for name, other in (SETS, SETS[::-1]):
        files, runs = written(folder, name, seed), folder / f"seed{seed}" / name
        of_other = written(folder, other, seed)["test"]
        there = [run for run in RUNS if (runs / run / "adapterkit.json").is_file()]
        adapters = [runs / run for run in there if run != "head"]
        if not adapters:
            continue
        found[name] = {run: {"right": right_in(runs / run, files["test"], backbone)} for run in there}
        for asked, figures in ((files["test"], ("accuracy", *FIGURES)), (of_other, ("accuracy",))):
            looked = look_into(subjects_of(adapters, backbone), asked, Looking(kind="text-classification", seed=seed))
            for subject, seen in zip(looked.subjects, looked.seen, strict=True):
                top = measure(seen.states[:, -1], looked.drawn, seed)
                here = found[name].setdefault("bare" if subject.artifact is None else subject.name, {})
                prefix = "other " if asked == of_other else ""
                here |= {f"{prefix}{figure}": top.figures[figure] for figure in figures}
                here[f"{prefix}probed"] = as_digits(top.right)
        print(seed, name, "looked at", f"{time.process_time():.0f} s", flush=True)
    return found


def right(found: Seeds, name: str, run: str, of: str = "right") -> dict[str, NDArray[np.float64]]:
    """Seed -> (rows,): 100 where the answer is right, 0 where it is wrong."""
    trained = {seed: sets[name][run][of] for seed, sets in found.items() if run in sets.get(name, {})}
    return {seed: np.array([100.0 * int(one) for one in digits]) for seed, digits in trained.items()}


def gain(after: dict[str, NDArray[np.float64]], before: dict[str, NDArray[np.float64]]) -> str:
    """Points, with a 95 % paired bootstrap interval over the test rows, of the mean over the seeds that have both."""
    gained_N = np.mean([after[seed] - before[seed] for seed in after if seed in before], axis=0)
    drawn_RN = np.random.default_rng(0).integers(0, len(gained_N), (RESAMPLES, len(gained_N)))
    low, high = np.percentile(gained_N[drawn_RN].mean(axis=1), [2.5, 97.5])
    return f"{gained_N.mean():+.1f} [{low:+.1f}, {high:+.1f}]"


def table(found: Seeds) -> None:
    """A table for each set: means over seeds."""
    for name in SETS:
        print(f"\n| {name} | seeds | right | over the head alone | over `none` | probe, over bare | ", end="")
        print("probe of the other set, over bare | alignment | uniformity | rank |")
        print("|---|---|---|---|---|---|---|---|---|---|")
        head, plain = (right(found, name, run) for run in ("head", "none"))
        for run in ("bare", *RUNS):
            own = [sets[name][run] for sets in found.values() if run in sets.get(name, {})]
            cells = [str(len(own)), *["–"] * 8]
            if run != "bare" and own:
                answers = right(found, name, run)
                cells[1] = f"{np.mean(list(answers.values())):.1f}"
                cells[2:4] = [gain(answers, under) for under in (head, plain)]
            if run != "head" and own:
                for place, of in ((4, "probed"), (5, "other probed")):
                    known, bare = (right(found, name, one, of) for one in (run, "bare"))
                    said = "" if run == "bare" else f", {gain(known, bare)}"
                    cells[place] = f"{np.mean(list(known.values())):.1f}{said}"
                cells[6:] = [f"{np.mean([one[figure] for one in own]):.2f}" for figure in FIGURES]
            print(f"| {run} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("act", choices=["train", "look", "table"])
    parser.add_argument("seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=600, help="no training begins later than that")
    parser.add_argument("--folder", type=Path, default=Path("runs/objectives"))
    asked = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if asked.act == "table":
        table(found)
        return
    backbone = ak.Backbone.load("sentence-transformers/all-MiniLM-L6-v2")
    for seed in asked.seeds:
        if asked.act == "train":
            train(asked.folder, seed, backbone, time.monotonic() + 60 * asked.minutes)
        else:
            found[str(seed)] = look(asked.folder, seed, backbone)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
