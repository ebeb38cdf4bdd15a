"""One record of every kind, made by hand, in JSON values."""

from __future__ import annotations

from typing import Any

DIGEST, OTHER = "ab" * 32, "cd" * 32
HOSTILE = '<script>alert(1)</script><img src="http://evil/x.png" onerror=x>&'


def made(kind: str, sha256: str = DIGEST, name: str = "run") -> dict[str, Any]:
    """A whole record.

    Args:
        sha256: digest of the artifact that it is about.
        name: of what has a name in it.
    """
    about = {"schema": f"adapterkit.{kind}/1", "made_with": {"python": "3.12.0"}, "seed": 0}
    data = {"source": f"data/{name}.jsonl", "rows": 20, "unusable": 1, "digest": DIGEST}
    answerer = {
        "sha256": sha256, "kind": "text-classification", "version": 1, "parent": None, "backbone": name,
        "revision": None, "fingerprint": DIGEST, "dtype": "float32",
    }  # fmt: skip
    metric = {"value": 0.75, "low": 0.5, "high": None, "higher_is_better": True, "how": ""}
    whole = {**metric, "high": 0.875}
    difference = {
        "a": 0.5, "b": 0.75, "difference": 0.25, "low": 0.125, "high": 0.375, "standard_error": 0.0625,
        "higher_is_better": True, "verdict": "better",
    }  # fmt: skip
    calibration = {
        "items": 20, "ece": 0.125, "brier": 0.25, "nll_nats": None, "confidence": 0.875, "accuracy": 0.75,
        "bins": [{"low": 0.5, "high": 1.0, "items": 20, "confidence": 0.875, "accuracy": 0.75}],
    }  # fmt: skip
    layer = {
        "layer": 3, "accuracy": whole, "figures": {"logme": -0.5}, "refused": {"nmi": name}, "similarity": {name: None},
    }  # fmt: skip
    representation = {
        "name": name, "backbone": name, "revision": None, "fingerprint": DIGEST, "artifact": sha256, "pooling": "mean",
        "stands": 3, "gains": {"3": whole}, "layers": [{**layer, "layer": 2, "accuracy": None}, layer],
    }  # fmt: skip
    start = {
        "representation": name, "artifact": sha256, "layer": 3, "probe": 0.75, "logme": None, "accuracy": whole,
        "own": False,
    }  # fmt: skip
    starts = {
        "data": data, "kind": "text-classification", "chance": 0.5, "starts": [start],
        "rank_correlation": {"probe": None},
        "regret": {"probe": {"1": 0.125}}, "answers": {name: {"accuracy": whole}}, "notes": [name],
    }  # fmt: skip
    judged = {**about, "answering": answerer, "data": data, "resamples": 1000}
    setting = {
        "settings": {"head.kind": name}, "mean": 0.75, "spread": None, "values": [0.75, None], "parameters": 1000,
        "milliseconds_per_step": 2.5, "status": "done", "within_noise": None,
    }  # fmt: skip
    return {
        "evaluation": {
            **judged, "metrics": {"accuracy": metric}, "calibration": calibration,
            "labels": {name: {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "items": 2}},
        },
        "comparison": {
            **about, "a": {**answerer, "sha256": OTHER}, "b": answerer, "data": data, "resamples": 1000,
            "metric": "accuracy", "verdict": "better", "rows_for_a_point": 4000, "metrics": {"accuracy": difference},
            "sides": {"gained": 6, "lost": 1, "p_value": 0.125, "gained_rows": [1], "lost_rows": [2]},
            "slices": [{"by": "label", "name": name, "rows": 12, "difference": difference}], "slices_left_out": 0,
            "false_alarms": 0.05,
        },
        "calibrating": {
            **about, "answering": {**answerer, "sha256": OTHER, "parent": sha256}, "data": data, "temperature": 1.5,
            "before": calibration, "after": calibration,
            "threshold": {"risk": 0.05, "certainty": 0.9, "abstain_up_to": 0.5, "answered": 0.75, "wrong": 0.04},
        },
        "attribution": {
            **judged, "head_alone": answerer, "again": None, "metric": "accuracy", "starts_from": "constant answer",
            "gains": [{"name": "head", "difference": difference}, {"name": "representation", "difference": difference}],
        },
        "probe": {
            **about, "data": data, "kind": "text-classification", "items": 20, "labels": {name: 20}, "chance": 0.5,
            "representations": [representation], "notes": [name], "findings": [name],
        },
        "nearest": {**about, "found": {**starts, "answers": {}}, "findings": [name]},
        "transfer": {**about, "sets": {name: starts}, "findings": [name]},
        "ablation": {
            **about, "choice": "heads", "metric": "accuracy", "higher_is_better": True,
            "groups": [setting, {**setting, "mean": None, "parameters": None, "within_noise": True}],
        },
        "diff": {
            **about, "a": {**answerer, "sha256": OTHER}, "b": answerer, "relation": name, "changes": [],
            "labels_added": [name], "labels_removed": [], "metrics": [],
            "learned": [{"name": name, "a": 0.75, "b": None, "distance": None}], "golden": [],
        },
        "compaction": {
            **judged, "metric": "accuracy", "tolerance": 0.01, "difference": difference, "size_bytes": [2000, 1000],
            "tried": [{"dropped": 0.0, "numbers": 10, "difference": difference, "kept": True}],
        },
        "stream": {
            **about, "data": {name: data}, "resamples": 1000, "metrics": {name: "accuracy"}, "findings": [name],
            "ways": {"isolated": {"answering": {name: answerer}, "after": {name: {name: whole}}, "forgetting": {}}},
            "against": {"through": {name: difference}},
        },
        "upgrade": {
            **about, "old": DIGEST, "new": OTHER, "epochs": 1.0,
            "adapters": [{
                "run": name, "answering": answerer, "data": data, "metric": "accuracy", "misfits": [], "golden": [1, 4],
                "trials": [{
                    "way": "copy", "difference": difference, "seconds": 0.5, "size_bytes": 2000, "output": None,
                }],
                "advised": "copy",
            }],
        },
        "report": {**about, "runs": [], "records": []},
        "search": {
            **about, "where": name, "backbone": name, "fingerprints": [DIGEST], "refused": {name: name}, "others": 2,
            "found": [{
                "source": name, "fit": "exact", "kind": "text-classification", "method": "lora", "split": "test",
                "metric": "accuracy", "value": 0.75, "low": 0.5, "high": None, "size_bytes": 2000, "date": "",
                "backbone": name, "fingerprint": DIGEST, "sha256": sha256,
            }],
        },
    }[kind]  # fmt: skip
