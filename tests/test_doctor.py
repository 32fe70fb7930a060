"""`mifo doctor` sees what is wrong and says what mends it."""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from mifo_ext import cli
from mifo_ext.doctor import (
    Check,
    exit_code,
    imports,
    installed,
    package_check,
    python_check,
    requirements,
    table,
    torch_check,
    unmet,
)


@pytest.fixture
def empty_distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path for distributions that tests invent."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def invent(folder: Path, name: str, version: str, *needs: str, code: str | None = None) -> None:
    """Install a distribution of the given requirements."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {need}" for need in needs)]
    (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")
    if code is not None:
        (folder / f"{name}.py").write_text(code)


@pytest.mark.parametrize(
    ("python", "state"),
    [("3.9.18", "fail"), ("3.10.0", "ok"), ("3.12.9", "ok"), ("3.13.0", "fail")],
)
def test_pythons_are_those_of_the_package(python: str, state: str) -> None:
    assert python_check(python).state == state


def test_pythons_agree_with_the_package_metadata() -> None:
    from importlib.metadata import metadata

    from packaging.specifiers import SpecifierSet

    from mifo_ext.doctor import PYTHONS

    assert SpecifierSet(metadata("mifo-ext")["Requires-Python"]) == PYTHONS


def test_a_missing_package_says_how_to_get_it() -> None:
    check = package_check("no-such-package", mend="pip install it")

    assert check == Check("no-such-package", "fail", "not installed", "pip install it")


def test_a_requirement_of_another_version_is_named(empty_distributions: Path) -> None:
    invent(empty_distributions, "host", "0.9.1", "part==2", "absent>=1", "extra; extra == 'x'")
    invent(empty_distributions, "part", "1.0")

    check = package_check("host", mend="pip install host")

    assert check.state == "fail"
    assert check.found == "0.9.1 needs part==2 (here: 1.0); absent>=1 (here: none)"


def test_only_the_requirements_asked_for_are_looked_at(empty_distributions: Path) -> None:
    invent(empty_distributions, "server", "1", "part==2", "other==9")
    invent(empty_distributions, "part", "2.0")

    assert package_check("server", mend="", only=["part"]) == Check("server", "ok", "1")


def test_requirements_for_other_machines_do_not_count(empty_distributions: Path) -> None:
    invent(
        empty_distributions, "host", "1", "part; python_version < '3'", "here; python_version > '3'"
    )

    assert requirements("host") == [Requirement("here; python_version > '3'")]
    assert unmet(requirements("host")) == ["here (here: none)"]


def test_the_real_version_is_told_whatever_the_platform_answers_for_vllm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _: "another")

    assert installed("verl") == "0.9.1"


def test_a_broken_build_beside_torch_is_found(empty_distributions: Path) -> None:
    invent(empty_distributions, "torchvision", "0.1", code="raise RuntimeError('no operator')")

    (check,) = torch_check()

    assert check.state == "fail"
    assert "beside broken torchvision" in check.found
    assert check.mend.startswith("pip uninstall torchvision")


def test_a_build_that_works_may_stay(
    empty_distributions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    invent(empty_distributions, "torchaudio", "0.1", code="")

    assert [check.state for check in torch_check()] == ["ok"]
    monkeypatch.delitem(sys.modules, "torchaudio")


def test_any_error_of_an_import_counts(empty_distributions: Path) -> None:
    (empty_distributions / "broken_module.py").write_text("raise OSError('libcuda')")

    assert not imports("broken_module")
    assert imports("json")


def test_a_failure_decides_the_exit_code() -> None:
    ok, warn, fail = Check("a", "ok", ""), Check("b", "warn", ""), Check("c", "fail", "")

    assert [exit_code([ok]), exit_code([ok, warn]), exit_code([warn, fail])] == [0, 0, 1]


def test_brackets_in_messages_are_shown_as_they_are() -> None:
    console = Console(width=80)
    with console.capture() as shown:
        console.print(table([Check("vllm", "fail", "none", "pip install verl[vllm]")]))

    assert "pip install verl[vllm]" in shown.get()


def doctor(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`mifo doctor` in a process of its own, as users run it."""
    import os

    return subprocess.run(
        [sys.executable, "-m", "mifo_ext.cli", "doctor", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "400", **environment},
    )


def test_a_sound_environment_passes_and_the_world_to_come_is_no_failure(tmp_path: Path) -> None:
    found = doctor(MIFO_WORLD=str(tmp_path / "world"))

    assert found.returncode == 0, found.stdout + found.stderr
    for line in ("interleaved: InterleavedTrainer", "mifo_ext, loaded by verl", "can start"):
        assert line in found.stdout
    assert "mifo world build" in found.stdout


@pytest.mark.slow
def test_a_plugin_that_verl_was_told_to_leave_out_fails() -> None:
    found = doctor(VERL_USE_EXTERNAL_PLUGINS="none")

    assert found.returncode == 1
    assert "not loaded (VERL_USE_EXTERNAL_PLUGINS=none)" in found.stdout


@pytest.mark.slow
def test_an_unknown_recipe_lists_the_known() -> None:
    found = doctor("--recipe", "mifoo")

    assert found.returncode == 1
    assert "Recipes: chord, grpo, " in found.stdout


@pytest.mark.slow
def test_every_problem_of_the_run_is_a_line(tmp_path: Path) -> None:
    found = doctor(
        f"data.train_files={tmp_path}/none.parquet",
        "interleave.hard_at_most=2",
        MIFO_WORLD=str(tmp_path / "world"),
    )

    assert found.returncode == 1
    assert "none.parquet does not exist" in found.stdout
    assert "hard_at_most" in found.stdout


def test_the_command_is_wired(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def examine(**words: object) -> list[Check]:
        asked.append(words)
        return [Check("a", "fail", "b")]

    monkeypatch.setattr("mifo_ext.doctor.examine", examine)

    assert cli.main(["doctor", "--recipe", "grpo", "scale=one_gpu", "+a.b=1"]) == 1
    assert asked == [{"recipe": "grpo", "overrides": ["scale=one_gpu", "+a.b=1"]}]
