"""A chat server on this machine that knows the answers to a data set's questions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from tests.support.teacher import Handler, Teacher


@contextlib.contextmanager
def answering_server(known: Mapping[str, str]) -> Iterator[str]:
    """Serve while the context lasts.

    Args:
        known: answers by question; questions without spaces.

    Returns:
        The server's address.
    """

    class Knowing(Handler):
        def answer(self, word: str, *, turn: int) -> None:
            self.complete(known[word])

    teacher = Teacher()
    teacher.RequestHandlerClass = Knowing
    with teacher.running():
        yield teacher.url
