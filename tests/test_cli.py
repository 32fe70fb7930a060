"""The command `mifo`: quick help, one clear sentence when something cannot be done."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mifo_ext import cli

GSM8K = [
    {"question": f"{n}+{n}?", "answer": f"<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}"}
    for n in range(40)
]


@pytest.fixture
def gsm8k(tmp_path: Path) -> Path:
    file = tmp_path / "gsm8k.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*GSM8K, GSM8K[0]]))
    return file


def test_help_comes_without_loading_anything_heavy() -> None:
    program = (
        "import sys; from mifo_ext.cli import parser; parser().format_help();"
        "print({'torch', 'verl', 'rich', 'datasets', 'pyarrow', 'transformers'} & {*sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "words",
    [
        ["doctor"],
        ["world", "build"],
        ["prepare", "data"],
        ["prepare", "model"],
        ["export"],
        ["watch"],
        ["report"],
        ["version"],
    ],
)
def test_every_command_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--help"])

    assert ended.value.code == 0
    assert f"usage: mifo {' '.join(words)}" in capsys.readouterr().out


def test_data_is_prepared_with_a_table_of_what_fell(
    gsm8k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["prepare", "data", str(gsm8k), "--out", str(tmp_path / "out")])

    shown = capsys.readouterr().out
    assert code == 0
    assert "fell: duplicate question" in shown
    assert "41" in shown
    assert "Note: The answers come from the demonstrations themselves" in shown
    assert pq.read_metadata(tmp_path / "out" / "train.parquet").num_rows == 38
    assert pq.read_metadata(tmp_path / "out" / "validation.parquet").num_rows == 2


def test_every_option_of_prepare_data_arrives(gsm8k: Path, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be brief.")
    options = {
        "--revision": "main",
        "--split": "test",
        "--name": "sums",
        "--system": str(tmp_path / "system.txt"),
        "--question-column": "question",
        "--answer-column": "answer",
        "--validation": "3",
        "--benchmark": str(gsm8k),
        "--shared-words": "50",
        "--limit": "20",
        "--seed": "4",
    }
    words = [word for pair in options.items() for word in pair]
    out = tmp_path / "out"

    assert cli.main(["prepare", "data", str(gsm8k), "--out", str(out), *words]) == 0

    assert json.loads((out / "prepare.json").read_text())["settings"] == {
        "revision": "main",
        "split": "test",
        "name": "sums",
        "system": str(tmp_path / "system.txt"),
        "question_column": "question",
        "answer_column": "answer",
        "solution_column": None,
        "keep_questions": False,
        "validation": "3",
        "benchmarks": [str(gsm8k)],
        "shared_words": 50,
        "drop_overlap": False,
        "limit": 20,
        "seed": 4,
    }


@pytest.mark.parametrize("switch", ["keep_questions", "drop_overlap"])
def test_every_switch_of_prepare_data_arrives(gsm8k: Path, tmp_path: Path, switch: str) -> None:
    word = f"--{switch.replace('_', '-')}"
    out = tmp_path / "out"

    assert cli.main(["prepare", "data", str(gsm8k), "--out", str(out), word]) == 0

    settings = json.loads((out / "prepare.json").read_text())["settings"]
    assert [name for name, value in settings.items() if value is True] == [switch]


def test_validation_can_be_left_out(gsm8k: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert cli.main(["prepare", "data", str(gsm8k), "--out", out, "--validation", "0"]) == 0

    assert not (tmp_path / "out" / "validation.parquet").exists()


def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["prepare", "data", "nowhere.jsonl", "--out", str(tmp_path)])

    assert code == 2
    assert capsys.readouterr().err == (
        "mifo: nowhere.jsonl must be a file, a folder or a hub id such as owner/name, "
        "but is none.\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "nowhere", "out"], "nowhere must be a run's folder"),
        (["prepare", "model", "nowhere", "--out", "out"], "nowhere must be a model folder"),
        (["report", "nowhere"], "must be a run's folder"),
    ],
)
def test_every_command_says_what_is_missing(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err


def test_a_fault_of_somebody_elses_code_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "_version", lambda _: int("seven"))

    with pytest.raises(ValueError, match="seven"):
        cli.main(["version"])


def test_a_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIFO_TRACEBACK", "1")

    with pytest.raises(FileNotFoundError):
        cli.main(["export", "nowhere", "out"])


def test_version_names_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0

    shown = capsys.readouterr().out
    assert shown.startswith("mifo-ext ")
    assert "verl 0.9.1" in shown


def test_the_world_is_built_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mifo_ext import world

    monkeypatch.setattr(
        world, "build", lambda folder, *, seed: world.World(Path(folder) / str(seed))
    )
    monkeypatch.setenv("MIFO_WORLD", str(tmp_path / "set"))

    assert cli.main(["world", "build", "--out", str(tmp_path / "named"), "--seed", "3"]) == 0
    assert cli.main(["world", "build"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"The world is in {tmp_path / 'named' / '3'}.",
        f"The world is in {tmp_path / 'set' / '0'}.",
    ]
