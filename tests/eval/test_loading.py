"""A benchmark is loaded whole or not at all, and is the same from every kind of file."""

import csv
import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import errors
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.eval.catalogue import Benchmark, benchmarks
from mifo_ext.eval.loading import Loaded, content_hash, load, problem_id
from mifo_ext.world.splits import HELD_OUT, Sizes, draw_splits, write_split

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SUMS = Benchmark(
    name="sums",
    title="Sums",
    about="Three sums.",
    hub="owner/sums",
    revision=COMMIT,
    file="data/test.jsonl",
    rows=3,
    samples=1,
    labels=("sum",),
    groups=("subject", "level"),
)
FRUIT = dataclasses.replace(SUMS, name="fruit", kind="letter", rows=2, groups=("category",))
PAIRS = [("1+1?", "2"), ("$1+2$?", "3"), ("1+3?", "4")]
CONTENT = content_hash([("1+1", "2"), ("1+2", "3"), ("1+3", "4")])
Row = dict[str, Any]
Write = Callable[[Sequence[Row]], Path]


def plain(pairs: Sequence[tuple[str, str]] = PAIRS) -> list[Row]:
    return [{"problem": question, "answer": answer} for question, answer in pairs]


def luffy(pairs: Sequence[tuple[str, str]], source: str) -> list[Row]:
    return [
        {
            "data_source": source,
            "prompt": [
                {"role": "system", "content": "Think."},
                {"role": "user", "content": question},
            ],
            "reward_model": {"ground_truth": answer, "style": "rule"},
        }
        for question, answer in pairs
    ]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_lines(rows: Sequence[Row]) -> Path:
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write_lines


def told(benchmark: Benchmark, path: Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        load(benchmark, path=path)
    return str(caught.value)


def golds(loaded: Loaded) -> list[str]:
    return [problem.gold for problem in loaded.problems]


LAYOUTS: dict[str, list[Row]] = {
    "plain": plain(),
    "Qwen2.5-Math": [
        {"id": n, "problem": q, "solution": f"So \\boxed{{{a}}}.", "answer": a, "question": q}
        for n, (q, a) in enumerate(PAIRS)
    ],
    "capitals": [{"ID": q, "Problem": q, "Solution": "", "Answer": int(a)} for q, a in PAIRS],
    "Minerva": [{"problem": q, "solution": f"\\boxed{{9}} no, \\boxed{{{a}}}"} for q, a in PAIRS],
    "GSM8K": [{"question": q, "answer": f"<<1+1=2>>steps\n#### {a}"} for q, a in PAIRS],
    "OlympiadBench": [
        {"question": q, "final_answer": [f"${a}$"], "solution": ["one", "two"], "unit": None}
        for q, a in PAIRS
    ],
    "rllm": [{"problem": q, "answer": [a]} for q, a in PAIRS],
    "AMC": [{"problem": q, "answer": float(a)} for q, a in PAIRS],
    "LUFFY": luffy(PAIRS, "sum"),
    "leading zeros": plain([(q, f"00{a}") for q, a in PAIRS]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_problems(layout: str, write: Write) -> None:
    loaded = load(SUMS, path=write(LAYOUTS[layout]))

    assert [problem.question for problem in loaded.problems] == ["1+1?", "$1+2$?", "1+3?"]
    assert golds(loaded) == ["2", "3", "4"]
    assert loaded.content == CONTENT


@pytest.mark.parametrize("suffix", ["parquet", "json", "csv"])
def test_every_kind_of_file_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"sums.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(plain()), path)
    elif suffix == "json":
        path.write_text(json.dumps(plain()))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["problem", "answer"])
            table.writeheader()
            table.writerows(plain())

    loaded = load(SUMS, path=path)

    assert loaded.content == CONTENT
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.source == {"file": path.name, "sha256": digest, "rows": 3}


@given(order=st.permutations(PAIRS * 2))
def test_order_and_repetition_change_neither_ids_nor_content(
    order: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("rows") / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in plain(order)))

    loaded = load(SUMS, path=path)

    assert loaded.content == CONTENT
    assert {p.id: p.gold for p in loaded.problems} == {problem_id(q): a for q, a in PAIRS}
    assert "Each question stands 2 times in the file and counts once." in loaded.notes


def test_the_id_is_twelve_digits_of_the_questions_normal_form() -> None:
    assert problem_id(" $1 + 1$ ?") == hashlib.sha256(b"1+1").hexdigest()[:12]


def test_a_file_of_several_benchmarks_gives_the_rows_that_are_ours(write: Write) -> None:
    rows = luffy([("9+9?", "18")], "amc") + luffy(PAIRS, "sum") + luffy([("7?", "7")], "math")

    loaded = load(SUMS, path=write(rows))

    assert loaded.content == CONTENT
    assert "Took 3 of the 5 rows of data.jsonl." in loaded.notes


def test_rows_that_say_they_are_another_benchmark_are_refused(write: Write) -> None:
    assert "must hold sums, but its rows are of amc" in told(SUMS, write(luffy(PAIRS, "amc")))


def test_one_label_that_nobody_knows_is_taken_for_ours_and_several_are_not(write: Write) -> None:
    assert load(SUMS, path=write(luffy(PAIRS, "my/own"))).content == CONTENT
    mixed = luffy(PAIRS[:2], "my/own") + luffy(PAIRS[2:], "my/other")
    assert "its rows are of my/other, my/own" in told(SUMS, write(mixed))


def test_a_missing_question_is_told_with_both_numbers(write: Write) -> None:
    assert told(SUMS, write(plain(PAIRS[:2]))).startswith(
        "sums must have 3 different questions, but data.jsonl has 2."
    )


def test_a_known_copy_of_another_size_is_accepted_by_its_name(write: Write) -> None:
    known = dataclasses.replace(SUMS, rows=4, contents={"small": CONTENT})

    loaded = load(known, path=write(plain()))

    assert loaded.copy == "small"
    assert loaded.notes == ["The copy small has 3 questions; others have 4."]


def test_an_unknown_copy_is_told_and_a_known_one_is_silent(write: Write) -> None:
    path = write(plain())
    assert load(dataclasses.replace(SUMS, contents={"own": CONTENT}), path=path).notes == []
    other = load(dataclasses.replace(SUMS, contents={"own": "0" * 64}), path=path)
    assert other.copy is None
    assert "is that of no known copy (own)" in other.notes[0]


def test_the_content_of_another_benchmark_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(SUMS, name="other", contents={"first": CONTENT})
    monkeypatch.setattr("mifo_ext.eval.loading.benchmarks", lambda: {"other": other})
    assert told(SUMS, write(plain())) == "data.jsonl must hold sums, but holds other (copy first)."


def test_one_question_with_two_golds_is_told_with_its_rows(write: Write) -> None:
    message = told(SUMS, write(plain([*PAIRS, ("1 + 1?", "3")])))
    assert "rows 1 and 4 say '2' and '3' for '1 + 1?'" in message


def test_the_same_gold_in_two_spellings_is_one_gold(write: Write) -> None:
    assert len(load(SUMS, path=write(plain([*PAIRS, ("1+1?", "02")]))).problems) == 3


def test_a_private_question_is_never_quoted(write: Write) -> None:
    private = dataclasses.replace(SUMS, private=True)
    message = told(private, write(plain([*PAIRS, ("1 + 1?", "3")])))
    assert problem_id("1+1?") in message
    assert "1 + 1" not in message


def test_rows_without_a_question_or_an_answer_are_told_all_at_once(write: Write) -> None:
    rows = [*plain([("", "1"), ("1+1?", "2"), ("1+2?", " ")]), {"problem": "x?", "answer": None}]
    message = told(SUMS, write(rows))
    assert "row 1 has no question; row 3 has no answer; row 4 has no answer" in message


def test_many_problems_are_counted_not_listed(write: Write) -> None:
    message = told(SUMS, write(plain([("1?", "")] * 13)))
    assert "row 10 has no answer; and 3 more" in message
    assert "row 11" not in message


def test_a_gold_that_cannot_be_graded_against_is_refused(write: Write) -> None:
    message = told(SUMS, write(plain([*PAIRS[:2], ("1+3?", "\\frac{")])))
    assert "row 3: '\\\\frac{' " in message


def test_rules_that_changed_golds_are_on_record(write: Write) -> None:
    loaded = load(SUMS, path=write(plain([("a?", "4.5e33"), ("b?", "336^\\circ"), ("c?", "7")])))
    assert golds(loaded) == ["4.5 \\times 10^{33}", "336", "7"]
    rules = [problem.gold_rules for problem in loaded.problems]
    assert rules == [("e_notation",), ("degree_number",), ()]
    assert "Golds cleaned: 2 of 3 (e_notation 1, degree_number 1)." in loaded.notes


def test_several_answers_are_one_list_and_tolerances_are_told(write: Write) -> None:
    rows: list[Row] = [
        {"question": "a?", "final_answer": ["$1$", "$2$"], "error": None},
        {"question": "b?", "final_answer": ["3"], "error": "1e-2"},
        {"question": "c?", "final_answer": ["4"], "error": ""},
    ]
    loaded = load(SUMS, path=write(rows))
    assert golds(loaded) == ["1, 2", "3", "4"]
    assert "1 rows state a tolerance (`error`) that no grader applies." in loaded.notes


def test_a_list_of_one_answer_is_cleaned_by_the_named_rules(write: Write) -> None:
    loaded = load(SUMS, path=write(LAYOUTS["OlympiadBench"]))
    assert [problem.gold_rules for problem in loaded.problems] == [("outer_dollars",)] * 3


def test_unknown_columns_are_told_with_the_known_ones(write: Write) -> None:
    message = told(SUMS, write([{"frage": "1?", "antwort": "1"}]))
    assert "must have a column for the question (question, problem, " in message
    assert "but has frage, antwort. Rename its columns." in message


def test_the_group_is_the_first_column_that_a_file_has(write: Write) -> None:
    rows = [row | {"level": 2} for row in plain()]
    assert {p.group for p in load(SUMS, path=write(rows)).problems} == {"2"}
    rows = [row | {"subject": "Sums"} for row in rows]
    assert {p.group for p in load(SUMS, path=write(rows)).problems} == {"Sums"}
    assert {p.group for p in load(SUMS, path=write(plain())).problems} == {""}


def test_letters_are_compared_as_letters(write: Write) -> None:
    rows = [
        {"question": f"{n}?", "options": ["x", "y"], "answer": "B", "category": "law"}
        for n in range(2)
    ]
    loaded = load(FRUIT, path=write(rows))
    assert golds(loaded) == ["B", "B"]
    assert {(p.kind, p.group, p.gold_rules) for p in loaded.problems} == {("letter", "law", ())}
    assert "\nA. x\nB. y\n" in loaded.problems[0].question


def test_options_that_stand_in_the_question_are_told(write: Write) -> None:
    loaded = load(FRUIT, path=write(luffy([("x? A. 1 B. 2", "(b)"), ("y? A. 1 B. 2", "A")], "f")))
    assert golds(loaded) == ["B", "A"]
    assert "data.jsonl has no column of options: its questions are asked as they stand." in (
        loaded.notes
    )


def test_a_letter_benchmark_refuses_a_gold_that_is_no_letter(write: Write) -> None:
    assert "row 1: '2' is no letter" in told(FRUIT, write(plain(PAIRS[:2])))


def test_a_row_with_contradicting_choices_is_told_by_its_number(write: Write) -> None:
    good = {"question": "0?", "options": ["x", "y"], "answer": "A", "answer_index": 0}
    assert "row 2: `answer` and `answer_index`" in told(
        FRUIT, write([good, good | {"question": "1?", "answer_index": 1}])
    )


def test_a_benchmark_that_repeats_questions_itself_keeps_them(write: Write) -> None:
    repeating = dataclasses.replace(SUMS, rows=4, repeats=True)
    loaded = load(repeating, path=write(plain([*PAIRS, PAIRS[0]])))
    first = problem_id("1+1?")
    assert [p.id for p in loaded.problems if p.id.startswith(first)] == [first, f"{first}-2"]
    assert loaded.content == CONTENT


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
