"""Where problems come from: a limit, a path, the world, a hub."""

import dataclasses
import hashlib
import json
import random
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub import errors

from mifo_ext.eval.catalogue import benchmarks
from mifo_ext.eval.loading import load
from mifo_ext.world.splits import HELD_OUT, Sizes, draw_splits, write_split
from tests.support.benchmark_files import COMMIT, CONTENT, PAIRS, SUMS, Write, plain, told


def many(count: int = 40) -> list[tuple[str, str]]:
    return [(f"{n}+0?", str(n)) for n in range(count)]


def ids(path: Path, *, limit: int, seed: int = 0) -> set[str]:
    sized = dataclasses.replace(SUMS, rows=40)
    return {problem.id for problem in load(sized, path=path, limit=limit, seed=seed).problems}


def test_a_limit_takes_the_same_questions_whatever_their_order(write: Write) -> None:
    ten = ids(write(plain(many())), limit=10)
    shuffled = many()
    random.Random(1).shuffle(shuffled)
    path = write(plain(shuffled))

    assert len(ten) == 10
    assert ids(path, limit=10) == ten
    assert ids(path, limit=5) < ten < ids(path, limit=20)
    assert ids(path, limit=10, seed=1) != ten
    assert len(ids(path, limit=99)) == 40


def test_a_limit_is_told_and_comes_after_the_checks(write: Write) -> None:
    loaded = load(SUMS, path=write(plain()), limit=2)
    assert loaded.notes[-1] == "A subset of 2 of 3 questions, seed 0."
    assert loaded.content == CONTENT
    with pytest.raises(ValueError, match="must have 3 different"):
        load(SUMS, path=write(plain(PAIRS[:2])), limit=1)


def test_a_limit_below_one_is_refused(write: Write) -> None:
    with pytest.raises(ValueError, match="`limit` must be at least 1, but is 0"):
        load(SUMS, path=write(plain()), limit=0)


def test_a_path_that_does_not_exist_is_never_asked_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"`--data sums=` must name .* does not exist"):
        load(SUMS, path=Path("owner/name"))


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sums.csv").write_text("problem,answer\n")
    assert "at least one row" in told(SUMS, tmp_path / "sums.csv")


def test_the_default_world_is_a_known_copy_with_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIFO_WORLD", str(tmp_path))
    problems = draw_splits(Sizes(), seed=0)[HELD_OUT]
    write_split(problems, tmp_path / "heldout.parquet", split=HELD_OUT)

    loaded = load(benchmarks()["world"])

    assert (len(loaded.problems), loaded.copy, loaded.notes) == (800, "seed_0", [])
    assert [p.group for p in loaded.problems] == [f"{p.skill}/{p.level}" for p in problems]


def test_a_world_that_is_not_built_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIFO_WORLD", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Build it with `mifo world build`"):
        load(benchmarks()["world"])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of a hub that cannot be reached; yields where the commit's files go."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "datasets--owner--sums" / "snapshots" / COMMIT / "data"
    folder.mkdir(parents=True)
    return folder


def test_one_file_of_the_pinned_commit_is_read(hub: Path) -> None:
    text = "".join(json.dumps(row) + "\n" for row in plain())
    (hub / "test.jsonl").write_text(text)
    (hub / "other.jsonl").write_text("not this benchmark")

    loaded = load(SUMS)

    assert loaded.content == CONTENT
    assert loaded.source == {
        "dataset": "owner/sums",
        "revision": COMMIT,
        "commit": COMMIT,
        "file": "data/test.jsonl",
        "config": None,
        "split": "test",
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "rows": 3,
    }
    assert loaded.notes == ["Read at the pinned commit, whose content is not on record."]


def test_a_hub_out_of_reach_is_told_with_what_to_do(hub: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"`sums` must be read from owner/sums at 0123"
    ) as e:
        load(SUMS)
    assert "the hub cannot be reached and nothing is in the cache" in str(e.value)
    assert str(e.value).endswith("or pass a local copy with `--data sums=FILE`.")


ANSWER = httpx.Response(403, request=httpx.Request("GET", "https://hub.invalid"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.GatedRepoError("no", response=ANSWER), "have not let you in. Accept its terms"),
        (errors.RepositoryNotFoundError("no", response=ANSWER), "knows no such data set, or it is"),
        (errors.RevisionNotFoundError("no", response=ANSWER), "has no such commit"),
        (errors.EntryNotFoundError("no"), "it has no data/test.jsonl"),
        (errors.HfHubHTTPError("busy", response=ANSWER), "the hub answers: busy"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_refusal_of_the_hub_is_told_with_what_to_do(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(FileNotFoundError, match="`--data sums=FILE`") as caught:
        load(SUMS)
    assert said in str(caught.value)
