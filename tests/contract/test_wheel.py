"""What is installed by `pip install` is all there is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.runs import ROOT

GROUPS = ("recipe", "scale", "rl", "sft_loss", "demos")


@pytest.mark.slow
def test_a_wheel_carries_every_module_and_configuration_and_the_guard(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("mifo_ext", "configs", "eval", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", tmp_path, source], check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())

    for group in GROUPS:
        for path in (ROOT / "configs" / group).glob("*.yaml"):
            assert f"mifo_ext/configs/{group}/{path.name}" in packed
    assert {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()} - {
        "__pycache__"
    } == {*GROUPS, "eval"}
    for file in (ROOT / "mifo_ext").rglob("*.yaml"):
        assert str(file.relative_to(ROOT)) in packed
    modules = {str(file.relative_to(ROOT)) for file in (ROOT / "mifo_ext").rglob("*.py")}
    # What lies in hydra_namespace is installed as hydra_plugins.
    assert {name for name in modules if "hydra_namespace" not in name} <= packed
    assert not [name for name in packed if "__pycache__" in name]
    for suffix in ("py", "js", "css", "jinja"):
        assert {
            f"mifo_ext/eval/{path.name}" for path in (ROOT / "eval").glob(f"*.{suffix}")
        } <= packed
    for file in (ROOT / "configs/eval").glob("*.yaml"):
        assert f"mifo_ext/configs/eval/{file.name}" in packed
    assert "hydra_plugins/mifo_ext_guard.py" in packed
    assert "hydra_plugins/__init__.py" not in packed
    assert {name.split("/")[0] for name in packed if ".dist-info" not in name} == {
        "mifo_ext",
        "hydra_plugins",
    }
