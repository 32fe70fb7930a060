"""Results to put into tables."""

from mifo_ext.eval.results import BenchmarkResult, Estimate, Lengths, RunResult

SUITE = (("aime24", 30, 32), ("amc83", 83, 32), ("math500", 500, 1), ("mmlu_pro", 12032, 1))


def benchmark(
    name: str,
    *,
    problems: int = 4,
    samples: int = 2,
    accuracy: float = 0.5,
    coverage: float = 1.0,
    groups: dict[str, Estimate] | None = None,
    rates: dict[str, float] | None = None,
) -> BenchmarkResult:
    powers = [2**i for i in range(samples.bit_length())]
    of_all = Lengths(problems * samples, 1234.5, 1000, 8000)
    return BenchmarkResult(
        benchmark=name,
        problems=problems,
        samples=samples,
        coverage=coverage,
        accuracy=Estimate(accuracy, accuracy - 0.125, accuracy + 0.125),
        passes=dict.fromkeys(powers, 0.75),
        majorities=dict.fromkeys(powers, 0.625),
        lengths={"all": of_all, "correct": of_all, "wrong": Lengths(0, None, None, None)},
        rates=rates
        if rates is not None
        else {"truncated": 0.25, "no_answer": 0, "timeout": 0.0004},
        groups=groups or {},
    )


def run(
    name: str = "mifo", *benchmarks: BenchmarkResult, grader: str = "strict", average: bool = True
) -> RunResult:
    return RunResult(name, grader, list(benchmarks), Estimate(0.5, 0.4, 0.6) if average else None)


def suite(name: str) -> RunResult:
    return run(name, *(benchmark(b, problems=n, samples=k) for b, n, k in SUITE))
