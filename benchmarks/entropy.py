"""What `token_entropy` costs: time and extra memory, over rows, vocabulary and float type.

    python benchmarks/entropy.py [--quick] [--repeats 9] [--json FILE]

Against verl's two entropy functions, the plain formula on `log_softmax`, and one `log_softmax`
of the same logits, which a forward pass's loss takes anyway. Times are interleaved; a ratio is
the median of ours over the other within a round, below 1 where ours is faster. Memory is how far
it rises above the logits, each in a fresh process.

Dimensions:
    N  positions
    V  vocabulary
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from measure import device, in_tidy_process, interleaved, peak_rise_bytes, ratio, show
from rich.table import Table
from torch import Tensor

from mifo_ext.core.entropy import token_entropy

OURS = "token_entropy"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Case(NamedTuple):
    """Logits to measure on."""

    rows: int
    vocabulary: int
    dtype: str


QUICK = [Case(rows, 32_000, dtype) for rows in (128, 256) for dtype in DTYPES]
CASES = [
    *(Case(rows, 1_000, dtype) for rows in (2_048, 8_192) for dtype in DTYPES),
    *(Case(rows, 32_000, dtype) for rows in (256, 1_024) for dtype in DTYPES),
    *(Case(rows, 152_000, dtype) for rows in (64, 256, 1_024) for dtype in DTYPES),
]


def plain(logits_NV: Tensor) -> Tensor:
    """Four tensors of the logits' size."""
    log_probability_NV = logits_NV.float().log_softmax(-1)
    return -(log_probability_NV.exp() * log_probability_NV).sum(-1)


def alternatives(logits_NV: Tensor) -> dict[str, Callable[[], object]]:
    """What is measured on these logits, ours first; none takes a gradient."""
    from verl.utils import torch_functional as verl

    return {
        OURS: lambda: token_entropy(logits_NV),
        "verl, chunks": lambda: verl.entropy_from_logits_with_chunking(logits_NV),
        "verl": lambda: verl.entropy_from_logits(logits_NV),
        "plain formula": lambda: plain(logits_NV),
        "one log_softmax": lambda: logits_NV.log_softmax(-1),
    }


def logits_of(case: Case) -> Tensor:
    """Random logits about as far apart as a trained model's."""
    logits_NV = 4 * torch.randn(case.rows, case.vocabulary, device=device())
    return logits_NV.to(DTYPES[case.dtype])


def extra_bytes(case: Case, name: str) -> int:
    """Memory that one alternative takes beside the logits; a fresh process runs this."""
    run = alternatives(logits_of(case))[name]
    # Once before, on next to nothing: what a first call loads is not the alternative's.
    alternatives(logits_of(Case(1, 8, case.dtype)))[name]()
    return peak_rise_bytes(run)


def measured(case: Case, repeats: int) -> list[dict[str, object]]:
    """One row an alternative."""
    with torch.no_grad():
        seconds = interleaved(alternatives(logits_of(case)), repeats)
    rows: list[dict[str, object]] = []
    for name, taken in seconds.items():
        median = statistics.median(taken)
        rows.append(
            {
                **case._asdict(),
                "name": name,
                "seconds": median,
                "ns_per_logit": median / case.rows / case.vocabulary * 1e9,
                "ours_over_it": ratio(seconds[OURS], taken),
                "extra_bytes": in_tidy_process(extra_bytes, case, name),
            }
        )
    return rows


def shown(rows: list[dict[str, object]]) -> Table:
    """The rows as a table."""
    table = Table("rows", "vocabulary", "logits", "", "ns a logit", "ours / it", "extra MiB")
    for row in rows:
        table.add_row(
            *(f"{row[key]}" for key in ("rows", "vocabulary", "dtype", "name")),
            f"{row['ns_per_logit']:.2f}",
            f"{row['ours_over_it']:.2f}",
            f"{int(str(row['extra_bytes'])) / 2**20:.0f}",
        )
    return table


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small sizes, three rounds")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    repeats = 3 if arguments.quick else arguments.repeats
    rows = [
        row for case in (QUICK if arguments.quick else CASES) for row in measured(case, repeats)
    ]
    show("entropy", [shown(rows)], rows, file=arguments.json)


if __name__ == "__main__":
    main()
