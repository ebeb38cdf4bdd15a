from __future__ import annotations

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from adapterkit.artifact import DataFacts, open_artifact
from adapterkit.artifact.card import escaped, flat, render_card
from adapterkit.metrics import Metric
from adapterkit.recipe import HeadSettings
from tests.artifact.conftest import make, write
from tests.training.worlds import recipe, rows_of, train, write_rows

HOSTILE = "\n---\nlicense: evil\n# x <script>alert(1)</script> ![x](http://x) `rm` | [a](b) \u2028 \x00 𝔘 \"' \\"

PLAIN = json.dumps(
    {
        "task": {"kind": "text-classification", "labels": ["no", "yes"]},
        "method": {"kind": "lora"},
        "head": {"kind": "family"},
        "backbone": {"name": "org/name", "revision": None, "fingerprint": "f" * 64},
        "data": {"source": "a/b", "rows": {}, "unusable": {}},
        "metrics": {"test": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}},
        "recipe": {},
        "golden": {"rows": []},
        "parameters": {"method": 1, "head": 1},
        "dtype": "float32",
        "seed": 0,
        "version": 1,
        "parent": None,
        "history": [],
        "packages": {},
    }
)
"""Of a manifest, what a card is made of."""


def metadata_of(text):
    opening, block, body = text.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(block), body


def test_the_card_holds_the_hubs_metadata_and_how_to_use_it(saved):
    found, body = metadata_of((saved / "README.md").read_text())
    assert found["library_name"] == "adapterkit"
    assert found["pipeline_tag"] == "text-classification"
    assert found["datasets"] == ["made/up"]
    assert {"adapterkit", "peft", "lora"} <= set(found["tags"])
    assert "ak.load(" in body
    assert "PeftModel.from_pretrained" in body
    assert "num_labels=3" in body
    assert "adapterkit verify" in body


def test_metrics_stand_in_the_card_and_in_its_metadata(tmp_path, tiny_backbones):
    metrics = {"accuracy": Metric(0.935, 0.92, 0.95), "bleu": Metric(20.5, 20.0, 21.0, how="sacrebleu's zh tokens")}
    with make(tiny_backbones["bert"]) as adapted:
        write(
            tmp_path / "out",
            adapted,
            metrics={"test": metrics},
            data=DataFacts(source="a/b", license="mit"),
        )
    found, body = metadata_of((tmp_path / "out" / "README.md").read_text())
    (result,) = found["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": 0.935}, {"type": "bleu", "value": 20.5}]
    assert result["dataset"] == {"name": "a/b", "type": "a/b", "split": "test"}
    assert found["license"] == "mit"
    assert "| test | accuracy | 0.935 | 0.92 to 0.95 |" in body
    assert "| test | bleu (sacrebleu's zh tokens) | 20.5 | 20 to 21 |" in body
    kept = open_artifact(tmp_path / "out").manifest.metrics["test"]
    assert {name: metric.how for name, metric in kept.items()} == {"accuracy": "", "bleu": "sacrebleu's zh tokens"}


def test_text_from_labels_and_rows_ends_nothing(tmp_path, tiny_backbones):
    labels = (HOSTILE, "```\n# heading", "plain")
    rows = [{"text": f"{HOSTILE} ``` {number}"} for number in range(3)]
    with make(tiny_backbones["bert"], labels=labels) as adapted:
        write(tmp_path / "out", adapted, golden=rows, data=DataFacts(source=HOSTILE))
    found, body = metadata_of((tmp_path / "out" / "README.md").read_text())
    assert "license" not in found
    assert "<" not in body
    assert body.count("```") == 4
    headings = [line for line in body.splitlines() if line.startswith("# ")]
    assert len(headings) == 1


@given(st.text())
def test_whatever_a_source_is_called_the_metadata_hold_it_on_one_line(text):
    content = {**json.loads(PLAIN), "data": {**json.loads(PLAIN)["data"], "source": text}}
    found, _ = metadata_of(render_card(content, 1).decode())
    name = found["model-index"][0]["results"][0]["dataset"]["name"]
    assert name.isprintable()
    assert name == flat(text)
    if text.isprintable() and len(text) <= 500:
        assert name == text


@given(st.text())
def test_an_escaped_text_has_no_character_that_markdown_or_html_reads(text):
    found = escaped(text)
    assert not set(found) & set("<>`*[]|!\n\r")
    assert not re.search(r"(?<![^\W_])_|_(?![^\W_])", found)  # an underscore inside a word is only an underscore


@pytest.mark.parametrize("name", ["bert-base-uncased", "org/name", "/local/path", "./x", "a/b/c", "~/x"])
def test_only_hub_ids_are_named_to_the_hub(name):
    from adapterkit.artifact.card import _is_hub_id

    assert _is_hub_id(name) == (name in ("bert-base-uncased", "org/name"))


def test_the_card_shows_a_row_of_the_data_only_where_the_recipe_lets_it(saved):
    content = json.loads((saved / "adapterkit.json").read_bytes())
    content["golden"]["rows"] = [{"row": {"text": "a private matter", "label": "x"}}]
    for allowed in ("nowhere", "report", "card"):
        content["recipe"]["data"] = {"show_rows": allowed}
        assert ("a private matter" in render_card(content, 1).decode()) is (allowed == "card")
    del content["recipe"]["data"]
    assert "a private matter" not in render_card(content, 1).decode()


def test_the_card_says_what_the_data_were(tmp_path, tiny_backbones):
    """By hand, of 40 training rows of which eight are held out, and a test set that repeats two of them."""
    rows = rows_of("text-classification", 52)
    write_rows(tmp_path / "text-classification.jsonl", rows[:40])
    write_rows(tmp_path / "text-classification-test.jsonl", rows[40:50])
    settings = {"training": {"max_steps": 1}, "output": str(tmp_path / "out")}
    made = recipe(tmp_path, tiny_backbones["bert"], **settings)
    kept = train(made, backbone=tiny_backbones["bert"]).artifact
    manifest = json.loads((kept / "adapterkit.json").read_bytes())
    body = (kept / "README.md").read_text()
    test = [len(tiny_backbones["bert"].tokenizer(row["text"])["input_ids"]) for row in rows[40:50]]
    assert manifest["data"]["length_tokens"]["test"] == [sorted(test)[4], max(test), max(test)]
    assert manifest["data"]["shared"]["test"] == 0
    median, most = sorted(test)[4], max(test)
    assert f"| test | 10 | 0 | {median}, {most}, {most} | 0 |" in body
    assert "good 16 (50.0%)" in body.replace("&#46;", ".")
    assert f"{manifest['calibration']['test']:.1%} on test" in body
    assert "Licence of the data: not known" in body
    read = ModelCard.load(kept / "README.md").data  # the hub's own library
    measured = {(each.dataset_split, each.metric_type): each.metric_value for each in read.eval_results}
    assert measured["test", "accuracy"] == manifest["metrics"]["test"]["accuracy"]["value"]


@pytest.mark.parametrize(
    ("source", "named"), [("org/set", True), ("set", True), ("my/train.jsonl", False), ("a.csv", False)]
)
def test_a_file_is_no_data_set_of_a_hub(saved, source, named):
    content = json.loads((saved / "adapterkit.json").read_bytes())
    content["data"]["source"] = source
    found, _ = metadata_of(render_card(content, 1).decode())
    assert ("datasets" in found) is named


def test_a_card_says_first_where_plain_tools_would_answer_with_a_random_head(tmp_path, tiny_backbones):
    for name, head in (("own", HeadSettings(kind="linear")), ("family", HeadSettings(kind="family"))):
        with make(tiny_backbones["bert"], head=head) as adapted:
            card = (write(tmp_path / name, adapted) / "README.md").read_text()
        after_title = card.split("\n# ")[1].split("\n\n")[1]
        assert ("random" in after_title) == (name == "own")
        assert ("AutoPeftModelForSequenceClassification" in card) == (name == "family")
        assert "num_labels=3" in card
