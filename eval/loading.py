"""Loading a benchmark: the right questions, each once, with golds that can be graded against."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mifo_ext.data.overlap import normal_form
from mifo_ext.eval.benchmark_rows import Entry, listed, read_entries
from mifo_ext.eval.benchmark_source import read_benchmark
from mifo_ext.eval.catalogue import Benchmark, benchmarks
from mifo_ext.eval.choices import letter_of
from mifo_ext.eval.record import Problem
from mifo_ext.grading import clean_gold

ID_DIGITS = 12
QUESTION_SHOWN = 80


class Loaded(NamedTuple):
    """A benchmark, ready to be asked.

    Attributes:
        benchmark: which one.
        problems: in the order of the file, or the chosen subset of them.
        content: SHA-256 of the whole benchmark's content; see `content_hash`.
        copy: name of the known copy with this content; None when it is unknown.
        source: file or data set, its SHA-256 and commit, for `run.json`.
        notes: what the user should know, a sentence each.
    """

    benchmark: Benchmark
    problems: list[Problem]
    content: str
    copy: str | None
    source: dict[str, object]
    notes: list[str]


class _Question(NamedTuple):
    """A question with its cleaned gold, and how often the file has it."""

    entry: Entry
    form: str
    gold: str
    rules: tuple[str, ...]
    times: int = 1


def load(
    benchmark: Benchmark, *, path: Path | None = None, limit: int | None = None, seed: int = 0
) -> Loaded:
    """Load a benchmark and check that it is the whole of it.

    Args:
        benchmark: which one.
        path: a local file or folder in any known layout; None for the hub or the world's folder.
        limit: ask only this many questions, the same ones for the same seed whatever the file's
            order; those of a smaller limit are among those of a larger. None for all.
        seed: which subset.

    Returns:
        The problems, with what they came from. Ids depend on the questions alone, so they are
        the same in every copy.

    Raises:
        FileNotFoundError: when the data is not there or cannot be downloaded.
        ValueError: when it is not this benchmark, not the whole of it, contradicts itself, or
            holds a gold that cannot be graded against; everything of one kind at once.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"`limit` must be at least 1, but is {limit}.")
    source = read_benchmark(benchmark, path=path)
    where = str(source.provenance.get("file", source.name))
    reading = read_entries(benchmark, source.rows, where=where)
    questions = _once_each(benchmark, _cleaned(benchmark, reading.entries, where=where), where)
    content = content_hash((question.form, question.gold) for question in questions)
    copy = _copy(benchmark, content)
    _check_whole(benchmark, questions, content=content, copy=copy, where=where)
    problems = _problems(benchmark, questions)
    commit = source.provenance.get("commit")
    pinned = commit is not None and commit == benchmark.revision
    said = _notes(benchmark, questions, content=content, copy=copy, pinned=pinned)
    notes = [*reading.notes, *said]
    if limit is not None and limit < len(problems):
        notes.append(f"A subset of {limit} of {len(problems)} questions, seed {seed}.")
        problems = _subset(problems, limit=limit, seed=seed)
    return Loaded(benchmark, problems, content, copy, source.provenance, notes)


def content_hash(questions: Iterable[tuple[str, str]]) -> str:
    """Hash what a benchmark asks, whatever file it came in.

    Args:
        questions: normal form of each question and its cleaned gold; order and repetition do not
            matter.

    Returns:
        64 hexadecimal digits.
    """
    # Escaped: a lone surrogate has no UTF-8.
    text = json.dumps(sorted(set(questions)), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def problem_id(question: str) -> str:
    """Name a question by its normal form: 12 hexadecimal digits, the same in every copy."""
    return _digest(normal_form(question))[:ID_DIGITS]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _cleaned(benchmark: Benchmark, entries: list[Entry], *, where: str) -> list[_Question]:
    """Clean every gold; one that cannot be graded against stops the run."""
    questions: list[_Question] = []
    problems: dict[str, str] = {}
    # A file may repeat its rows 32 times, and grading a gold against itself takes a while.
    known: dict[str, tuple[str, tuple[str, ...], str | None]] = {}
    for entry in entries:
        if entry.gold not in known:
            known[entry.gold] = _clean(benchmark, entry.gold)
        gold, rules, problem = known[entry.gold]
        if problem is not None:
            problems.setdefault(entry.gold, f"row {entry.row}: {entry.gold!r} {problem}")
        questions.append(_Question(entry, normal_form(entry.question), gold, rules))
    if problems:
        raise ValueError(
            f"Every answer of {benchmark.name} in {where} must be one that can be graded against, "
            f"but {listed(list(problems.values()))}. Correct the file."
        )
    return questions


def _clean(benchmark: Benchmark, gold: str) -> tuple[str, tuple[str, ...], str | None]:
    """The cleaned gold, the rules that changed it, and why it cannot be graded against."""
    if benchmark.kind == "letter":
        letter = letter_of(gold)
        return letter or gold, (), None if letter else "is no letter of an option"
    cleaned = clean_gold(gold)
    return cleaned.text, cleaned.rules, cleaned.problem


def _once_each(benchmark: Benchmark, questions: list[_Question], where: str) -> list[_Question]:
    """Each question once, in the order of the file; two golds for one question are an error."""
    if benchmark.repeats and len(questions) == benchmark.rows:
        return questions
    first: dict[str, _Question] = {}
    problems: list[str] = []
    for question in questions:
        seen = first.get(question.form)
        if seen is None:
            first[question.form] = question
        elif seen.gold == question.gold:
            first[question.form] = seen._replace(times=seen.times + 1)
        else:
            problems.append(
                f"rows {seen.entry.row} and {question.entry.row} say {seen.gold!r} and "
                f"{question.gold!r} for {_shown(benchmark, question)}"
            )
    if problems:
        raise ValueError(
            f"A question of {benchmark.name} in {where} must have one answer, "
            f"but {listed(problems)}. Correct the file."
        )
    return list(first.values())


def _shown(benchmark: Benchmark, question: _Question) -> str:
    if benchmark.private:
        return f"the question {problem_id(question.entry.question)}"
    text = " ".join(question.entry.question.split())
    return repr(text if len(text) <= QUESTION_SHOWN else text[:QUESTION_SHOWN] + "…")


def _copy(benchmark: Benchmark, content: str) -> str | None:
    found = (name for name, known in benchmark.contents.items() if known == content)
    return next(found, None)


def _check_whole(
    benchmark: Benchmark, questions: list[_Question], *, content: str, copy: str | None, where: str
) -> None:
    """Refuse what is another benchmark, or neither a known copy nor of the right size."""
    if copy is not None:
        return
    for other in benchmarks().values():
        if other.name != benchmark.name and (known := _copy(other, content)) is not None:
            raise ValueError(
                f"{where} must hold {benchmark.name}, but holds {other.name} (copy {known})."
            )
    if len(questions) != benchmark.rows:
        raise ValueError(
            f"{benchmark.name} must have {benchmark.rows:,} different questions, but {where} has "
            f"{len(questions):,}. Use a whole copy; for a few questions of it there is `--limit`."
        )


def _problems(benchmark: Benchmark, questions: list[_Question]) -> list[Problem]:
    """One problem a question; where a benchmark itself repeats one, the second is `…-2`."""
    seen: Counter[str] = Counter()
    problems: list[Problem] = []
    for question in questions:
        name = problem_id(question.entry.question)
        seen[name] += 1
        problems.append(
            Problem(
                benchmark=benchmark.name,
                id=name if seen[name] == 1 else f"{name}-{seen[name]}",
                question=question.entry.question,
                gold=question.gold,
                kind=benchmark.kind,
                group=question.entry.group,
                gold_rules=question.rules,
            )
        )
    return problems


def _subset(problems: list[Problem], *, limit: int, seed: int) -> list[Problem]:
    """The problems with the smallest hash of seed and id, in the order of the file."""
    ranked = sorted(problems, key=lambda problem: _digest(f"{seed}:{problem.id}"))
    kept = {problem.id for problem in ranked[:limit]}
    return [problem for problem in problems if problem.id in kept]


def _notes(
    benchmark: Benchmark,
    questions: list[_Question],
    *,
    content: str,
    copy: str | None,
    pinned: bool,
) -> list[str]:
    notes: list[str] = []
    times = sorted({question.times for question in questions})
    if times != [1]:
        often = f"{times[0]}" if len(times) == 1 else f"{times[0]} to {times[-1]}"
        notes.append(f"Each question stands {often} times in the file and counts once.")
    if copy is None and pinned:
        notes.append("Read at the pinned commit, whose content is not on record.")
    elif copy is None and benchmark.contents:
        notes.append(
            f"The content ({content[:12]}…) is that of no known copy "
            f"({', '.join(benchmark.contents)}): compare with published results with care."
        )
    elif copy is None:
        notes.append("No copy's content is on record: only the number of questions was checked.")
    elif len(questions) != benchmark.rows:
        notes.append(
            f"The copy {copy} has {len(questions):,} questions; others have {benchmark.rows:,}."
        )
    if rules := Counter(rule for question in questions for rule in question.rules):
        changed = sum(bool(question.rules) for question in questions)
        counts = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
        notes.append(f"Golds cleaned: {changed} of {len(questions)} ({counts}).")
    return notes
