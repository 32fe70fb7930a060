"""Records on disk: nothing that was written is lost, nothing half written is read."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.eval.record import GradeLine, Place, Problem, Sample
from mifo_ext.eval.store import Log, read_records, write_json, write_records


def sample(number: int, response: str = "seven") -> Sample:
    return Sample("b", "p", number, "key", 11, response, "stop", 3)


def test_a_log_gives_back_what_was_added(tmp_path: Path) -> None:
    with Log(tmp_path / "samples.jsonl", Sample) as log:
        log.add([sample(1), sample(0)])

    assert read_records(tmp_path / "samples.jsonl", Sample) == [sample(1), sample(0)]


@given(response=st.text(max_size=40))
def test_any_text_survives_and_stays_one_line(
    tmp_path_factory: pytest.TempPathFactory, response: str
) -> None:
    path = tmp_path_factory.mktemp("log") / "samples.jsonl"

    write_records(path, [sample(0, response)])

    assert read_records(path, Sample) == [sample(0, response)]
    assert path.read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("response", ["\ud800", "\x00\u2028\x85\r", "😀"])
def test_hostile_text_survives(tmp_path: Path, response: str) -> None:
    write_records(tmp_path / "samples.jsonl", [sample(0, response)])

    assert read_records(tmp_path / "samples.jsonl", Sample) == [sample(0, response)]


def test_a_last_line_torn_anywhere_is_cut_off_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_records(path, [sample(0), sample(1)])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1

    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        with Log(path, Sample) as log:
            assert list(log.records) == [Place("b", "p", 0)]
            log.add([sample(1)])
        assert path.read_bytes() == whole


def test_a_spoilt_line_in_the_middle_is_named_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_records(path, [sample(0), sample(1)])
    spoilt = b"{no json}\n" + path.read_bytes()
    path.write_bytes(spoilt)

    with pytest.raises(ValueError, match=r"`samples\.jsonl, line 1` must be a sample, but is not"):
        Log(path, Sample)
    assert path.read_bytes() == spoilt


@pytest.mark.parametrize("line", ["[1]", "3", '{"benchmark": "b"}', '{"other": 1}'])
def test_a_line_of_another_kind_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "grades.jsonl").write_text(line + "\n")

    with pytest.raises(ValueError, match="must be a gradeline"):
        read_records(tmp_path / "grades.jsonl", GradeLine)


def test_settling_puts_lines_in_the_order_of_the_plan_and_drops_what_is_not_in_it(
    tmp_path: Path,
) -> None:
    log = Log(tmp_path / "samples.jsonl", Sample)
    log.add([sample(2), sample(0), sample(9)])

    log.settle(Place("b", "p", number) for number in range(4))

    assert [s.sample for s in read_records(tmp_path / "samples.jsonl", Sample)] == [0, 2]


def test_of_two_lines_for_one_place_the_later_counts(tmp_path: Path) -> None:
    write_records(tmp_path / "samples.jsonl", [sample(0, "early"), sample(0, "late")])

    with Log(tmp_path / "samples.jsonl", Sample) as log:
        assert log.records[Place("b", "p", 0)].response == "late"


def test_tuples_come_back_as_tuples(tmp_path: Path) -> None:
    problem = Problem("b", "p", "q", "1", gold_rules=("trim", "e_notation"))

    write_records(tmp_path / "problems.jsonl", [problem])

    assert read_records(tmp_path / "problems.jsonl", Problem) == [problem]


def test_json_holds_a_lone_surrogate_visibly_and_never_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"name": "a\ud800b"})

    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["name"] == "a\ud800b"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "run.json", {"mean": float("nan")})
    assert (tmp_path / "run.json").read_text(encoding="utf-8").startswith("{")
