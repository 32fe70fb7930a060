"""What `mifo prepare data` did, as a table."""

from __future__ import annotations

from rich.table import Table

from mifo_ext.data.prepare import Prepared


def summary(prepared: Prepared) -> Table:
    """The rows kept, and why the rest fell."""
    tally = prepared.tally
    table = Table("", "rows", "share")
    for column in table.columns[1:]:
        column.justify = "right"

    def line(name: str, count: int, style: str = "") -> None:
        table.add_row(name, f"{count:,}", f"{count / tally.read:.1%}", style=style)

    line("read", tally.read)
    line("kept", len(prepared.train), "green")
    if tally.stripped:
        line("  of them without demonstration", tally.stripped.total())
        for reason, count in tally.stripped.most_common():
            line(f"    {reason}", count)
    if prepared.validation and prepared.set_aside:
        line("set aside for validation", len(prepared.validation), "green")
    for reason, count in tally.fell.most_common():
        line(f"fell: {reason}", count, "yellow")
    return table
