"""What a package may not bring, and what an artifact may not ask for: each refusal says why."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.errors import ArtifactError, PluginError, RecipeError
from adapterkit.methods.table import method_of
from adapterkit.recipe import LoraMethod, load_recipe, recipe_schema
from adapterkit.recipe.methods import METHOD_SETTINGS
from tests.laws.worlds import adapter, write
from tests.plugins import packages

LIGHT = """
from typing import ClassVar, Literal
from adapterkit.recipe import MethodSettings
class Mine(MethodSettings):
    implementation: ClassVar[str] = "{implementation}"
    kind: Literal["{kind}"] = "{kind}"
"""
POINT = "[adapterkit.methods]\nmine = mine_light:Mine\n"


def recipe(**method: Any) -> dict[str, Any]:
    return {
        "task": {"kind": "text-classification"},
        "backbone": {"name": "bert-base-uncased"},
        "data": {"train": "train.jsonl"},
        "method": method,
    }


def light(kind: str = "mine", implementation: str = "mine_heavy:MINE") -> dict[str, str]:
    return {"mine_light.py": LIGHT.format(kind=kind, implementation=implementation)}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"mine_light.py": "import there_is_none"}, "ModuleNotFoundError: No module named 'there_is_none'"),
        ({"mine_light.py": "Mine = 3"}, "found 3, expected a class that derives from MethodSettings"),
        ({"mine_light.py": "class Mine: kind = 'mine'"}, "expected a class that derives from MethodSettings"),
        (light(kind="other"), "Mine.kind: found 'other', expected Literal[\"mine\"] as default"),
        (light(implementation="os.system"), "found 'os.system', expected \"package.module:name\""),
    ],
)
def test_a_package_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, files: Mapping[str, str], reason: str
) -> None:
    with packages.installed(packages.write(tmp_path, "mine", files, POINT)):
        with pytest.raises(PluginError, match=r"of mine 1\.0 cannot be used") as caught:
            METHOD_SETTINGS["mine"]
        assert reason in caught.value.problems[0]
        with pytest.raises(RecipeError) as told:
            load_recipe(recipe(kind="mine"))
        assert reason in told.value.problems[0]
        assert "mine" not in list(METHOD_SETTINGS)
        assert load_recipe(recipe(kind="lora")).method == LoraMethod()


@pytest.mark.parametrize(
    ("heavy", "reason"),
    [
        ("", "AttributeError: module 'mine_heavy' has no attribute 'MINE'"),
        ("MINE = 3", "found 3, expected an instance of a class that derives from Method"),
        ("raise OSError('no disk')", "OSError: no disk"),
        (
            "from adapterkit.methods.protocol import Method\nclass Half(Method):\n    def update(self, *given): pass",
            "TypeError: Half gives one of update and update_in_peft; expected both or neither",
        ),
    ],
)
def test_an_implementation_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, heavy: str, reason: str
) -> None:
    with packages.installed(packages.write(tmp_path, "mine", {**light(), "mine_heavy.py": heavy}, POINT)):
        settings = METHOD_SETTINGS["mine"]()
        with pytest.raises(PluginError, match=r"of mine 1\.0 cannot be used") as caught:
            method_of(settings)
        assert reason in caught.value.problems[0]


def test_a_package_that_takes_a_name_of_ours_is_left_out_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    point = "[adapterkit.methods]\nlora = mine_light:Mine\n"
    with packages.installed(packages.write(tmp_path, "thief", light(kind="lora"), point)), caplog.at_level("WARNING"):
        assert METHOD_SETTINGS["lora"] is LoraMethod
        assert list(METHOD_SETTINGS).count("lora") == 1
    assert "thief 1.0 brings adapterkit.methods: lora, which is adapterkit's own name; it is not used" in caplog.text


def test_two_packages_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [packages.write(tmp_path / name, name, light(), POINT) for name in ("one", "two")]
    with packages.installed(*folders), pytest.raises(PluginError, match="cannot be used") as caught:
        METHOD_SETTINGS["mine"]
    assert "one 1.0 and two 1.0 both bring it" in caught.value.problems[0]


@pytest.fixture
def scaled(toys: None, tiny_backbones: Mapping[str, Any], tmp_path: Path) -> Path:
    """An artifact of the docs' method."""
    with adapter(tiny_backbones["bert"], "text-classification", METHOD_SETTINGS["scale"]()) as adapted:
        return write(tmp_path / "scaled", adapted)


def test_an_artifact_of_a_method_that_is_not_installed_names_the_entry_point(
    scaled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_artifact(scaled).manifest.method.kind == "scale"
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if not (Path(folder) / "scale_adapter").is_dir()])
    with pytest.raises(ArtifactError) as caught:
        open_artifact(scaled)
    assert "method.kind: found 'scale', expected lora, bottleneck, ia3, fusion or none" in str(caught.value)
    assert "a package with the entry point 'scale' in adapterkit.methods" in str(caught.value)


def test_a_method_that_nothing_packs_is_not_mounted(
    scaled: Path, tiny_backbones: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METHOD_SETTINGS["scale"], "packer", "")
    with ak.Host(tiny_backbones["bert"]) as host, pytest.raises(PluginError, match="cannot mount the method 'scale'"):
        host.mount("scaled", scaled)


def test_the_schema_and_mistakes_know_of_installed_methods(toys: None) -> None:
    assert "ScaleMethod" in recipe_schema()["$defs"]
    assert "GatedHead" in recipe_schema()["$defs"]
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(kind="scale", tpo=2, rank=3))
    assert list(caught.value.problems) == [
        "method.tpo: is not a known name; did you mean top?",
        "method.rank: belongs to method.kind lora, not to scale; remove it",
    ]


def test_a_recipe_of_another_packages_method_needs_no_torch(tmp_path: Path) -> None:
    folder = packages.write(tmp_path, "toy", *packages.of_docs("methods.md"))
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\nfrom adapterkit.recipe import load_recipe\n"
        f"print(load_recipe({recipe(kind='scale', top=1)!r}).method, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "ScaleMethod(kind='scale', top=1) False\n"


def test_the_manifest_holds_the_settings_and_reads_them_back(scaled: Path) -> None:
    kept = json.loads((scaled / "adapterkit.json").read_text(encoding="utf-8"))["method"]
    assert kept == {"kind": "scale", "top": None}
