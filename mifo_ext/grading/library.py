"""Asking math-verify from any thread of any process, with a bound that holds.

Worker processes are started when first needed, kept, and replaced when they die. They are plain
subprocesses: nothing is forked from the calling process, which may hold threads and a GPU.
"""

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time

WORKERS_AT_MOST = 2
START_TIMEOUT_S = 60.0
GRACE_S = 3.0
"""How long beyond a question's own timeout a worker may stay silent before it is replaced."""


class WorkerDiedError(RuntimeError):
    """The worker process ended or fell silent in the middle of a question."""


class _Worker:
    """One `library_worker` process."""

    def __init__(self) -> None:
        paths = [path for path in sys.path if path]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mifo_ext.grading.library_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""},
        )
        self.buffer = b""
        self.started = False

    def ask(self, request: dict[str, str | float], timeout_s: float) -> str:
        if not self.started:
            self._read_line(START_TIMEOUT_S)
            self.started = True
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise WorkerDiedError("the worker is gone") from error
        return str(json.loads(self._read_line(2 * timeout_s + GRACE_S))["result"])

    def _read_line(self, timeout_s: float) -> bytes:
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise WorkerDiedError("the worker is silent")
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise WorkerDiedError("the worker ended")
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # a question was still in the pipe
                    pipe.close()


class WorkerPool:
    """At most `WORKERS_AT_MOST` workers, lent to one thread at a time."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._lent: set[_Worker] = set()
        self._free = threading.Condition()

    def ask(self, task: str, gold: str, answer: str, *, timeout_s: float) -> str:
        """Put one question; the time spent waiting for a free worker does not count.

        Args:
            task: `equal` or `as_relift`, see `library_worker`.
            gold: the gold, as LaTeX.
            answer: an answer, or a whole response.
            timeout_s: bound on the comparison, in seconds.

        Returns:
            The word of the worker: `same`, `different`, `timeout`, or what went wrong.
        """
        request: dict[str, str | float] = {
            "task": task,
            "gold": gold,
            "answer": answer,
            "timeout_s": timeout_s,
        }
        worker = self._borrow()
        try:
            result = worker.ask(request, timeout_s)
        except BaseException as error:
            self._give_back(worker, alive=False)
            if isinstance(error, WorkerDiedError):
                return f"died: {error}"
            raise
        self._give_back(worker, alive=True)
        return result

    def start(self) -> None:
        """Start a worker in the background, so that the first question need not wait."""
        with self._free:
            if not self._idle and not self._lent:
                self._idle.append(_Worker())

    def close(self) -> None:
        """End all workers."""
        with self._free:
            workers = [*self._idle, *self._lent]
            self._idle.clear()
            self._lent.clear()
        for worker in workers:
            worker.close()

    def process_ids(self) -> list[int]:
        """Of the workers alive."""
        with self._free:
            return [worker.process.pid for worker in (*self._idle, *self._lent)]

    def _borrow(self) -> _Worker:
        with self._free:
            while not self._idle and len(self._lent) >= WORKERS_AT_MOST:
                self._free.wait()
            worker = self._idle.pop() if self._idle else _Worker()
            self._lent.add(worker)
            return worker

    def _give_back(self, worker: _Worker, *, alive: bool) -> None:
        with self._free:
            known = worker in self._lent
            self._lent.discard(worker)
            if alive and known:
                self._idle.append(worker)
            self._free.notify()
        if not (alive and known):
            worker.close()


pool = WorkerPool()


def _forget_after_fork() -> None:
    """A forked child must not talk to its parent's workers."""
    global pool
    pool = WorkerPool()


atexit.register(lambda: pool.close())
os.register_at_fork(after_in_child=_forget_after_fork)
