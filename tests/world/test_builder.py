import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from mifo_ext.world import World, WorldSettings, build, world_is_ready
from mifo_ext.world.builder import MANIFEST
from mifo_ext.world.problems import SKILLS
from mifo_ext.world.schooling import Schooling
from mifo_ext.world.splits import SPLITS, Sizes, draw_splits

SMALL = WorldSettings(
    schooling=Schooling(steps=3, batch=4),
    sizes=Sizes(
        train={"sum": 8, "product": 6, "code": 6},
        validation=2,
        heldout=3,
    ),
)
LONGEST_PROMPT, LONGEST_RESPONSE = 32, 64


def built(folder: Path, *, seed: int = 0, settings: WorldSettings = SMALL) -> World:
    return build(folder, seed=seed, progress=False, settings=settings)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return built(tmp_path_factory.mktemp("worlds") / "world")


def test_the_same_seed_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    again = contents(built(tmp_path / "again").folder)

    assert again == contents(world.folder)
    assert {"train.parquet", "model/model.safetensors", "model/tokenizer.json"} < again.keys()


def test_another_seed_gives_another_world(world: World, tmp_path: Path) -> None:
    other = built(tmp_path / "other", seed=1)

    for part in ("train.parquet", "heldout.parquet", "model/model.safetensors"):
        assert contents(other.folder)[part] != contents(world.folder)[part]


def test_a_world_that_is_there_is_not_built_again(world: World) -> None:
    before = (world.model / "model.safetensors").stat().st_mtime_ns

    assert world_is_ready(world.folder, settings=SMALL)
    assert built(world.folder) == world
    assert (world.model / "model.safetensors").stat().st_mtime_ns == before


def test_a_changed_file_another_seed_or_other_settings_make_it_stale(tmp_path: Path) -> None:
    world = built(tmp_path / "world")

    assert not world_is_ready(world.folder, seed=1, settings=SMALL)
    assert not world_is_ready(world.folder)
    world.train.write_bytes(world.validation.read_bytes())
    assert not world_is_ready(world.folder, settings=SMALL)

    built(world.folder)
    assert world_is_ready(world.folder, settings=SMALL)


def test_a_missing_or_broken_manifest_is_no_world(tmp_path: Path) -> None:
    assert not world_is_ready(tmp_path / "nowhere")
    (tmp_path / MANIFEST).write_text("{")
    assert not world_is_ready(tmp_path)


def test_a_build_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = built(tmp_path / "world")
    before = contents(world.folder)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mifo_ext.world.builder.save_reasoner", interrupted)
    with pytest.raises(KeyboardInterrupt):
        built(world.folder, seed=1)

    assert contents(world.folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(FileExistsError, match="must be empty or hold a world"):
        built(tmp_path)

    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_the_schema_is_that_of_luffys_users(world: World) -> None:
    for split, path in {
        "train": world.train,
        "validation": world.validation,
        "heldout": world.heldout,
    }.items():
        rows = parquet.read_table(path).to_pylist()
        for index, row in enumerate(rows):
            skill, level = row["extra_info"]["skill"], row["extra_info"]["level"]
            [prompt], [target] = row["prompt"], row["target"]
            answer = row["reward_model"]["ground_truth"]
            assert row["data_source"] == f"world/{skill}/{level}"
            assert level in SKILLS[skill].asked
            assert (prompt["role"], target["role"]) == ("user", "assistant")
            assert target["content"].endswith("\\boxed{" + answer + "}")
            assert row["ability"] == "math"
            assert row["reward_model"]["style"] == "rule"
            assert (row["extra_info"]["index"], row["extra_info"]["split"]) == (index, split)


def test_the_manifest_counts_the_questions_of_each_cell(world: World) -> None:
    manifest = json.loads((world.folder / MANIFEST).read_text())

    # 8 training sums over 4 levels, 3 held-out questions in every cell.
    assert manifest["questions"]["train"]["sum/6"] == 2
    assert set(manifest["questions"]["heldout"].values()) == {3}


def test_splits_share_no_question_and_lengths_fit_at_full_size() -> None:
    splits = draw_splits(Sizes(), seed=0)
    questions = [problem.question for split in SPLITS for problem in splits[split]]
    longest = max((p for split in SPLITS for p in splits[split]), key=lambda p: len(p.working))

    assert len(set(questions)) == len(questions)
    assert max(map(len, questions)) + 1 <= LONGEST_PROMPT
    assert len(longest.demonstration) + 1 <= LONGEST_RESPONSE
