"""Small benchmark files in every layout."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mifo_ext.eval.catalogue import Benchmark
from mifo_ext.eval.loading import Loaded, content_hash, load

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
