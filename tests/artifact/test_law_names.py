"""Names that can be no path, and texts that would steer a terminal: every door says so in an error of its own."""

from __future__ import annotations

import json
import threading

import pytest

import adapterkit as ak
from adapterkit.artifact import load, open_artifact, verify
from adapterkit.backbone import Backbone
from adapterkit.cli import console
from adapterkit.errors import AdapterkitError, ArtifactError, HostClosedError, OutputError, plain
from adapterkit.host import Host
from tests.artifact.conftest import LABELS, make, write
from tests.artifact.mutations import MANIFEST, resign

NAMES = {"a NUL": "a\0b", "too long": "n" * 5000, "too long for a file": "n" * 300, "too deep": "n/" * 3000}
DOORS = {
    "load": lambda name, whole, backbone: load(name, backbone),
    "mount": lambda name, whole, backbone: Host(backbone).mount("x", name),
    "pull": lambda name, whole, backbone: ak.pull(name),
    "pull into": lambda name, whole, backbone: ak.pull("owner/name", name),
    "push": lambda name, whole, backbone: ak.push(whole, name),
    "backbone": lambda name, whole, backbone: Backbone.load(name),
    "import": lambda name, whole, backbone: ak.import_peft(name, "out", backbone),
    "import into": lambda name, whole, backbone: ak.import_peft(whole, name, backbone, labels=LABELS),
    "export into": lambda name, whole, backbone: ak.export(whole, name, backbone=backbone),
    "evaluate": lambda name, whole, backbone: ak.evaluate(whole, data=name, backbone=backbone),
    "train": lambda name, whole, backbone: ak.train(name),
    "registry": lambda name, whole, backbone: ak.Registry(f"sqlite:///{name}"),
    "host's folder": lambda name, whole, backbone: Host(backbone, folder=name),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("door", DOORS)
def test_a_name_that_can_be_no_path_is_refused(tmp_path, monkeypatch, saved_once, tiny_backbones, door, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdapterkitError) as caught:
        DOORS[door](NAMES[name], saved_once, tiny_backbones["bert"])
    assert "\0" not in str(caught.value)
    assert not verify(NAMES[name], tiny_backbones["bert"])


def test_a_host_says_at_once_that_its_folder_is_none(tmp_path, tiny_backbones):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(OutputError, match="is no folder that may be written"):
            Host(tiny_backbones["bert"], folder=folder)


def test_a_host_that_is_closed_while_it_answers_says_so(saved_once, tiny_backbones, monkeypatch):
    """Two adapters in one slot, so that one always has to come back from where it waits."""
    host = Host(tiny_backbones["bert"], slots=1)
    for name in ("a", "b"):
        host.mount(name, saved_once)
    rows = [("a", "my card"), ("b", "was lost")] * 4
    expected = host.predict(rows, batch_size=1)
    found, started = [], threading.Event()
    compute = host._forwards.logits

    def slowly(pieces):
        started.set()
        return compute(pieces)

    monkeypatch.setattr(host._forwards, "logits", slowly)

    def ask():
        try:
            while True:
                found.append(host.predict(rows, batch_size=1))
        except Exception as error:  # noqa: BLE001 (which one is what is looked at)
            found.append(error)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    started.wait()
    host.close()
    for thread in asking:
        thread.join()
    errors = [each for each in found if not isinstance(each, list)]
    assert len(errors) == len(asking)
    assert all(isinstance(error, HostClosedError) for error in errors), errors
    assert all(each == expected for each in found if isinstance(each, list))


def edited(folder, **task):
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["task"].update(task)
    resign(folder, manifest)
    return folder


def test_an_unknown_kind_is_refused(saved, tiny_backbones):
    with pytest.raises(ArtifactError, match=r"task\.kind: found 'x', expected one of text-classification"):
        open_artifact(edited(saved, kind="x"))
    assert not verify(saved, tiny_backbones["bert"])


def test_a_long_label_is_saved_and_verified(tmp_path, tiny_backbones):
    label = "x" * 5000
    with make(tiny_backbones["bert"], labels=(label, "b", "c")) as adapted:
        folder = write(tmp_path / "out", adapted, golden=[{"text": "a card", "label": label}])
    assert verify(folder, tiny_backbones["bert"])


WILD = {"\x1b[2J": "\\x1b[2J", "\x9b2J": "\\x9b2J", "\u202egnp": "\\u202egnp", "a\rb": "a\\rb", "\ud800": "\\ud800"}


@pytest.mark.parametrize("text", WILD)
def test_what_steers_a_terminal_is_spelled_out_wherever_text_is_printed(capsys, text):
    for error in (AdapterkitError(text, [text], text), ArtifactError("x", [text])):
        assert WILD[text] in str(error)
        console.print_error(error)
    console.say(text)
    console.echo(text)
    console.print_table([[text]], ["label"], title=text)
    console.print_json({"label": text})
    out, err = capsys.readouterr()
    assert text not in out + err
    assert out.count(WILD[text]) >= 3
    assert json.loads(out[out.index("{") :]) == {"label": text}


def test_every_other_letter_stays(capsys):
    text = "Grüße, 你好, naïve – “ok” 🙂\nشكرا\u00a0."
    assert plain(text) == text
