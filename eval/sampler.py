"""Who draws samples: anything that takes requests and gives samples back as they finish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from mifo_ext.eval.record import Finish, Request, Sample


class Sampler(Protocol):
    """Draws samples, in whatever order they finish."""

    def draw(self, requests: Iterable[Request]) -> Iterator[list[Sample]]:
        """Yield every sample once, some at a time, as they finish.

        Raises:
            SamplerError: when no more can be drawn.
        """
        ...

    def close(self) -> None:
        """Give memory and processes back."""
        ...


class SamplerError(ValueError):
    """No more samples can be drawn; those that were yielded are good."""


def finished(request: Request, *, response: str, tokens: int, finish: Finish) -> Sample:
    """The record of a response.

    Args:
        request: what was asked.
        response: the text.
        tokens: its length.
        finish: whether it ended by itself.
    """
    return Sample(
        **request.place._asdict(),
        key=request.key,
        seed=request.seed,
        response=response,
        finish=finish,
        tokens=tokens,
    )
