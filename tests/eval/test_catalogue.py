"""The benchmarks and suites are what the paper and the hub say, and names are checked."""

import re

import pytest

from mifo_ext.eval.catalogue import Benchmark, benchmarks, chosen, suites
from mifo_ext.eval.record import Sampling
from mifo_ext.eval.templates import template_named, template_names
from tests.support.pages import rows
from tests.support.runs import ROOT

COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{64}")
ALL = list(benchmarks().values())
PAGE = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
NONE = "\N{EN DASH}"


def test_the_benchmarks_have_their_published_sizes() -> None:
    assert {name: benchmark.rows for name, benchmark in benchmarks().items()} == {
        "aime24": 30,
        "aime25": 30,
        "amc83": 83,
        "amc23": 40,
        "math500": 500,
        "olympiadbench": 674,
        "minerva": 272,
        "gsm8k": 1319,
        "mmlu_pro": 12032,
        "arc_c": 1172,
        "gpqa_diamond": 198,
        "world": 800,
    }


def test_small_competitions_are_sampled_32_times_and_the_rest_once() -> None:
    many = {name for name, benchmark in benchmarks().items() if benchmark.samples == 32}
    assert many == {"aime24", "aime25", "amc83", "amc23"}
    assert {benchmark.samples for benchmark in ALL} == {1, 32}


def test_letters_privacy_and_gates_are_those_of_the_sets() -> None:
    letters = {benchmark.name for benchmark in ALL if benchmark.kind == "letter"}
    assert letters == {"mmlu_pro", "arc_c", "gpqa_diamond"}
    assert [benchmark.name for benchmark in ALL if benchmark.private] == ["gpqa_diamond"]
    assert [benchmark.name for benchmark in ALL if benchmark.gated] == ["gpqa_diamond"]


@pytest.mark.parametrize("benchmark", ALL, ids=lambda benchmark: benchmark.name)
def test_commits_and_hashes_are_whole(benchmark: Benchmark) -> None:
    assert benchmark.revision is None or COMMIT.fullmatch(benchmark.revision)
    assert all(HASH.fullmatch(content) for content in benchmark.contents.values())


def test_no_two_benchmarks_share_a_content_or_a_label() -> None:
    contents = [content for benchmark in ALL for content in benchmark.contents.values()]
    assert len(set(contents)) == len(contents)
    for benchmark in ALL:
        names = (benchmark.name, benchmark.hub, *benchmark.labels)
        for name in filter(None, names):
            assert [other.name for other in ALL if other.is_called(name)] == [benchmark.name]


def test_luffys_labels_name_one_benchmark_each() -> None:
    labels = ["aime", "amc", "math", "olympiad_bench", "minerva", "world/sum/3"]
    named = [[found.name for found in ALL if found.is_called(label)] for label in labels]
    assert named == [["aime24"], ["amc83"], ["math500"], ["olympiadbench"], ["minerva"], ["world"]]


def test_the_suites_are_the_papers_tables() -> None:
    assert suites()["math"].benchmarks == (
        "aime24",
        "aime25",
        "amc83",
        "math500",
        "olympiadbench",
        "mmlu_pro",
    )
    assert suites()["math_ood"].benchmarks == ("arc_c", "gpqa_diamond", "mmlu_pro")
    assert suites()["tiny"].benchmarks == ("world",)


@pytest.mark.parametrize("name", ["math", "math_ood"])
def test_the_papers_suites_sample_as_the_paper_does(name: str) -> None:
    suite = suites()[name]
    default = Sampling()
    assert (suite.temperature, suite.top_p, suite.max_tokens) == (0.6, 1.0, 8192)
    assert (default.temperature, default.top_p, default.max_tokens) == (0.6, 1.0, 8192)
    assert suite.template == "luffy"


def test_suites_name_what_there_is() -> None:
    for suite in suites().values():
        assert set(suite.benchmarks) <= set(benchmarks())
        assert template_named(suite.template)
    assert not set(suites()) & set(benchmarks())


def test_suites_and_benchmarks_are_chosen_once_each_in_the_order_asked_for() -> None:
    names = [benchmark.name for benchmark in chosen(["mmlu_pro", "math_ood", "arc_c"])]
    assert names == ["mmlu_pro", "arc_c", "gpqa_diamond"]


def test_every_unknown_name_is_told_at_once_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"'gsm8'.* Did you mean gsm8k") as caught:
        chosen(["gsm8", "math", "qqqq"])
    told = str(caught.value)
    assert "'qqqq'. Suites: math, math_ood, tiny. Benchmarks: aime24, " in told


def test_asking_for_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="At least one"):
        chosen([])


def table_row(benchmark: Benchmark) -> list[str]:
    commit = benchmark.revision[:8] if benchmark.revision else "newest"
    return [
        benchmark.name,
        benchmark.title,
        f"{benchmark.rows:,}",
        str(benchmark.samples),
        benchmark.kind,
        benchmark.hub or NONE,
        commit if benchmark.hub else NONE,
        ", ".join(benchmark.contents) or NONE,
    ]


def test_the_page_has_every_benchmark_as_it_is() -> None:
    assert rows(PAGE, header="| name | title") == [table_row(benchmark) for benchmark in ALL]


def test_the_page_has_every_template() -> None:
    assert [cells[0] for cells in rows(PAGE, header="| name | ends with")] == template_names()


def test_the_page_names_every_known_copy_but_the_worlds() -> None:
    named = {(cells[0], cells[-1].split(":")[0]) for cells in rows(PAGE, header="| benchmark |")}
    known = {(b.name, copy) for b in ALL for copy in b.contents if b.hub}
    assert named == known
