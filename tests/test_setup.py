"""What a fresh machine is set up with, checked without installing anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
SCRIPTS = [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"]


def pins(file: Path) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [line for line in lines if line]


def canonical(pin: str) -> str:
    return re.sub(r"[-_.]+", "-", pin.partition("==")[0]).lower()


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: file.name)
def test_every_requirement_is_pinned_to_one_version(file: Path) -> None:
    assert pins(file)
    assert [pin for pin in pins(file) if not re.fullmatch(r"[\w.-]+==[\w.+]+", pin)] == []


def test_no_package_is_pinned_twice() -> None:
    names = [canonical(pin) for file in REQUIREMENTS for pin in pins(file)]

    assert sorted(names) == sorted(set(names))


def test_cuda_builds_are_left_out_and_torch_is_the_cpu_build() -> None:
    names = {canonical(pin) for file in REQUIREMENTS for pin in pins(file)}

    assert pins(ROOT / "requirements" / "torch-cpu.txt") == ["torch==2.13.0+cpu"]
    assert names.isdisjoint({"torchvision", "torchaudio", "torchcodec", "vllm"})
    assert not [name for name in names if name.startswith("nvidia")]


def test_what_the_project_declares_is_pinned() -> None:
    declared = re.search(
        r"^dependencies = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.S | re.M
    )
    assert declared
    wanted = {
        canonical(re.split(r"[=<>~!]", name)[0]) for name in re.findall('"(.+)"', declared[1])
    }
    pinned = {canonical(pin) for file in REQUIREMENTS for pin in pins(file)}

    assert wanted - pinned == set()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_scripts_parse_are_executable_and_stop_at_the_first_error(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert "\nset -euo pipefail\n" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True)


def broken(folder: Path, pin: str) -> str:
    """What `broken_packages.py` says of one pin when only `folder` can be imported from."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"# a comment\n{pin}\n")
    return subprocess.run(
        [sys.executable, "-S", ROOT / "scripts" / "broken_packages.py", requirements],
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def install(folder: Path) -> Path:
    """A package of one file, as pip leaves it; returns its metadata folder."""
    (folder / "tiny.py").write_text("")
    metadata = folder / "tiny-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    (metadata / "RECORD").write_text("tiny.py,,\ntiny.pyc,,\ntiny-1.0.dist-info/METADATA,,\n")
    return metadata


def test_a_whole_package_is_not_installed_again(tmp_path: Path) -> None:
    install(tmp_path)

    assert broken(tmp_path, "tiny==1.0") == ""


def test_a_package_is_installed_again_when_anything_of_it_is_amiss(tmp_path: Path) -> None:
    metadata = install(tmp_path)

    assert broken(tmp_path, "tiny==1.1") == "tiny==1.1\n"
    assert broken(tmp_path, "other==1.0") == "other==1.0\n"

    (tmp_path / "tiny.py").unlink()
    assert broken(tmp_path, "tiny==1.0") == "tiny==1.0\n"

    (tmp_path / "tiny.py").write_text("")
    (metadata / "RECORD").unlink()
    assert broken(tmp_path, "tiny==1.0") == "tiny==1.0\n"


def train(run: Path, *overrides: str, verl: str = "exit 0") -> subprocess.CompletedProcess[str]:
    """`scripts/train.sh` with a Python that runs the shell command `verl` instead."""
    tools = run.parent / "venv" / "bin"
    tools.mkdir(parents=True, exist_ok=True)
    (tools / "python").write_text(f'#!/bin/sh\necho "$@" >>"{run.parent}/calls"\n{verl}\n')
    (tools / "python").chmod(0o755)
    return subprocess.run(
        [ROOT / "scripts" / "train.sh", run, *overrides],
        env={"PATH": "/usr/bin:/bin", "VENV": str(tools.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_is_continued_until_complete_then_left_alone(tmp_path: Path) -> None:
    run, calls = tmp_path / "runs" / "mifo-seed0", tmp_path / "runs" / "calls"

    assert train(run, "+recipe=mifo", "seed=0", verl="exit 3").returncode == 3
    assert train(run, "+recipe=mifo", "seed=0").returncode == 0
    third = train(run, "+recipe=mifo", "seed=0")

    assert third.returncode == 0
    assert "is trained already" in third.stdout
    command = f"-m verl.trainer.main_ppo +recipe=mifo seed=0 trainer.default_local_dir={run}\n"
    assert calls.read_text() == 2 * command


def test_a_folder_with_a_run_of_other_settings_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "mifo-seed0"
    train(run, "+recipe=mifo")

    refused = train(run, "+recipe=grpo")

    assert refused.returncode == 1
    assert "must be empty or hold a run of this command" in refused.stderr


def test_the_demo_runs_verls_own_main_with_the_recipe() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "demo", "EXTRA=trainer.test_freq=5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "+recipe=mifo seed=0 trainer.test_freq=5" in shown
    assert "python -m verl.trainer.main_ppo" in (ROOT / "scripts" / "train.sh").read_text()
    assert shown.index("scripts/setup.sh") < shown.index("mifo world build")
    assert shown.index("scripts/train.sh") < shown.index("mifo report")


def test_the_comparison_gives_both_recipes_the_same_seeds_and_held_out_questions() -> None:
    shown = subprocess.run(
        ["make", "--dry-run", "demo-compare", "SEEDS=4 7"],
        cwd=ROOT,
        env={**os.environ, "MIFO_WORLD": "/my/world"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert "for seed in 4 7; do for recipe in mifo grpo" in shown
    assert "seed=$seed data.val_files=/my/world/heldout.parquet" in shown
    runs = [f"runs/compare/{recipe}-seed{seed}" for recipe in ("mifo", "grpo") for seed in (4, 7)]
    assert f"mifo report {' '.join(runs)} --into runs/compare\n" in shown
