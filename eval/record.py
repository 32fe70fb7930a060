"""What an evaluation is made of: questions, what a model answered, and what a grader said."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from mifo_ext.grading.record import Verdict

AnswerKind = Literal["math", "letter"]
Finish = Literal["stop", "length"]


class Place(NamedTuple):
    """Which of the planned samples one is: the name that samples and grades share.

    Attributes:
        benchmark: name of the benchmark.
        problem: the problem's id in it.
        sample: number of the sample, from 0.
    """

    benchmark: str
    problem: str
    sample: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One question of a benchmark, ready to be asked.

    Attributes:
        benchmark: name of the benchmark.
        id: the same in every run; unique in its benchmark.
        question: what the user asks, options included.
        gold: the answer to grade against, cleaned.
        kind: how its answer reads; a letter is never compared as mathematics.
        group: subject or level, for a breakdown; empty if there is none.
        gold_rules: rules of `clean_gold` that changed the gold.
    """

    benchmark: str
    id: str
    question: str
    gold: str
    kind: AnswerKind = "math"
    group: str = ""
    gold_rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn.

    Attributes:
        temperature: 0 for greedy.
        top_p: nucleus, in (0, 1].
        max_tokens: most new tokens of a response.
        stop: texts that end a response; they are kept in it.
        seed: of the whole evaluation; each sample has its own, derived from it.
    """

    temperature: float = 0.6
    top_p: float = 1.0
    max_tokens: int = 8192
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One sample still to be drawn.

    Attributes:
        place: which one it is.
        prompt: the whole text that the model reads.
        sampling: how it is drawn.
        key: hash of prompt and sampling: a sample with another key answers another question.
    """

    place: Place
    prompt: str
    sampling: Sampling
    key: str

    @property
    def seed(self) -> int:
        """This sample's own seed, 31 bits: equal ones would make copies, not samples."""
        text = json.dumps([self.sampling.seed, *self.place])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True, slots=True)
class Sample:
    """What a model answered, one line of `samples.jsonl`.

    Attributes:
        benchmark: name of the benchmark.
        problem: the problem's id.
        sample: number of the sample, from 0.
        key: hash of prompt and sampling.
        seed: it was drawn with.
        response: the text, the prompt not included.
        finish: `length` when it was cut off at the cap.
        tokens: of the whole response.
    """

    benchmark: str
    problem: str
    sample: int
    key: str
    seed: int
    response: str
    finish: Finish
    tokens: int

    @property
    def place(self) -> Place:
        """Which of the planned samples this is."""
        return Place(self.benchmark, self.problem, self.sample)


@dataclass(frozen=True, slots=True)
class GradeLine:
    """What a grader said of one sample, one line of `grades-<grader>.jsonl`.

    Its wall time is not here: a record that is the same after every rerun cannot hold it.

    Attributes:
        benchmark: name of the benchmark.
        problem: the problem's id.
        sample: number of the sample, from 0.
        key: hash of what was graded: response, gold and grader.
        verdict: the grader's word; only `correct` scores.
        reason: a short sentence.
        extracted: the answer as it stood in the response, or None.
        path: the layer of the grader that decided.
    """

    benchmark: str
    problem: str
    sample: int
    key: str
    verdict: Verdict
    reason: str
    extracted: str | None
    path: str

    @property
    def place(self) -> Place:
        """Which of the planned samples this is about."""
        return Place(self.benchmark, self.problem, self.sample)


def fingerprint(*parts: object) -> str:
    """Hash anything that JSON can hold.

    Args:
        parts: values; tuples count as lists.

    Returns:
        16 hexadecimal digits.
    """
    text = json.dumps(parts, ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def request_key(prompt: str, sampling: Sampling) -> str:
    """Hash everything that decides what a response answers to, the model apart."""
    return fingerprint(prompt, asdict(sampling))
