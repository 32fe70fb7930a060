"""Which entries are held: the exact global threshold and the packed mask, against sorting's kin.

    python benchmarks/selection.py [--entries 1e6 1e7 1e8] [--repeats 5] [--ranks 2 4 8]
                                   [--without torch.kthvalue] [--json FILE]

Time: `choose_held` on float32 importance in spans of 2^20 entries, as the actor
keeps it, against `torch.kthvalue`, `torch.topk` and `numpy.partition` on the same entries as one
tensor; these find the threshold only, no ties and no mask. `distinct`: magnitudes of normal
numbers. `tied`: 17 values, 58 % of the entries on one of them, as after one Adam step.
Memory: what each takes at most beside the entries, in a process of its own.
Ranks: bytes that each hands to an all-reduce, over gloo; the masks must be those of one rank.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from measure import in_tidy_process, interleaved, peak_rise_bytes, ratio, show
from rich.table import Table
from selection_entries import entries_of
from selection_ranks import over_ranks
from torch import Tensor

from mifo_ext.core.freezing import choose_held
from mifo_ext.core.importance import Chunk
from mifo_ext.loops import LOOPS

SPAN = 1 << 20
KINDS = ("distinct", "tied")
MEMORY_FIGHTERS_LIMIT = 3e8
"""topk makes pairs of value and index, 16 bytes an entry and more: left out above this."""


def ours(importance: Tensor) -> Tensor:
    """Half of the entries, chosen and packed."""
    chunks = [Chunk("w", i * SPAN, part, part) for i, part in enumerate(importance.split(SPAN))]
    count = importance.numel() // 2
    return choose_held(chunks, names=["w"], total=importance.numel(), count=count, passes=LOOPS)[1]


def alternatives(importance: Tensor) -> dict[str, Callable[[], object]]:
    """Ours and the others, each by its fastest call."""
    count = importance.numel() // 2
    found: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(importance),
        "torch.kthvalue": lambda: importance.kthvalue(importance.numel() - count + 1),
        "numpy.partition": lambda: np.partition(importance.numpy(), importance.numel() - count),
    }
    if importance.numel() <= MEMORY_FIGHTERS_LIMIT:
        found["torch.topk"] = lambda: importance.topk(count, sorted=False)
    return found


def timed(
    kind: str, count: int, repeats: int, without: Sequence[str] = ()
) -> list[dict[str, object]]:
    """One row an alternative, without some of them."""
    calls = alternatives(entries_of(kind, count))
    seconds = interleaved({n: call for n, call in calls.items() if n not in without}, repeats)
    fastest = min((name for name in seconds if name != "ours"), key=lambda n: min(seconds[n]))
    rows: list[dict[str, object]] = []
    for name, taken in seconds.items():
        rows.append(
            {
                "entries": count,
                "kind": kind,
                "name": name,
                "seconds": statistics.median(taken),
                "ours_over_it": ratio(seconds["ours"], taken),
                "fastest_alternative": name == fastest,
                "extra_bytes": in_tidy_process(extra_bytes, kind, count, name),
            }
        )
    return rows


def extra_bytes(kind: str, count: int, name: str) -> int:
    """What an alternative takes at most beside the entries; alone in its process."""
    warm = entries_of(kind, 1 << 16)
    for call in alternatives(warm).values():
        call()
    importance = entries_of(kind, count)
    return peak_rise_bytes(alternatives(importance)[name], host=True)


def shown(rows: list[dict[str, object]]) -> Table:
    """Times and memory as a table."""
    table = Table(
        "entries", "kind", "", "ns an entry", "ours / it", "MiB", caption="* fastest other"
    )
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        count, seconds = int(str(row["entries"])), float(str(row["seconds"]))
        mark = " *" if row["fastest_alternative"] else ""
        table.add_row(
            f"{count:.0e}",
            str(row["kind"]),
            f"{row['name']}{mark}",
            f"{seconds / count * 1e9:.2f}",
            f"{row['ours_over_it']:.2f}",
            f"{int(str(row['extra_bytes'])) / 2**20:.0f}",
        )
    return table


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ranks", type=int, nargs="*", default=[2, 4, 8])
    parser.add_argument("--without", nargs="*", default=[], help="alternatives to leave out")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for count in map(int, arguments.entries):
        for kind in KINDS:
            rows += timed(kind, count, arguments.repeats, arguments.without)
    exchanged = [over_ranks(kind, ranks) for ranks in arguments.ranks for kind in KINDS]
    table = Table("ranks", "kind", "entries a rank", "bytes exchanged a rank", "same as one rank")
    for row in exchanged:
        table.add_row(*(str(value) for value in row.values()))
    tables = [shown(rows), table] if exchanged else [shown(rows)]
    show("selection", tables, [*rows, *exchanged], file=arguments.json)


if __name__ == "__main__":
    main()
