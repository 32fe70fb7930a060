"""A chat server on this machine that does what the question says: a teacher for tests."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mifo_ext.settings_demonstrations import ServerSettings

KEY = "sk-only-for-this-test"
RIGHT, WRONG = "So \\boxed{2}.", "So \\boxed{3}."
HANGS_S = 40.0


class Teacher(ThreadingHTTPServer):
    """Speaks HTTP on 127.0.0.1.

    Attributes:
        requests: the bodies received, with their path.
        headers: the headers received, names in small letters.
        most: most requests that were under way at the same time.
        over: set when the test is over; whoever hangs then lets go.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.now, self.most = 0, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    @contextlib.contextmanager
    def running(self) -> Iterator[Teacher]:
        """Serve while the context lasts."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        with self:
            thread.start()
            try:
                yield self
            finally:
                self.over.set()
                self.shutdown()
                thread.join()

    def asked(self) -> Counter[str]:
        """How often each question came."""
        return Counter(request["messages"][-1]["content"] for request in self.requests)


class Handler(BaseHTTPRequestHandler):
    """Answers by the first word of the question."""

    server: Teacher
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request | {"path": self.path})
            self.server.headers.append({k.lower(): v for k, v in self.headers.items()})
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        question = request["messages"][-1]["content"]
        self.answer(question.split()[0], turn=self.server.asked()[question])

    def answer(self, word: str, *, turn: int) -> None:
        if word == "hang":
            self.server.over.wait(HANGS_S)
        elif word == "drop":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        elif word == "drip":
            # A byte in every moment: the socket is never silent for long.
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not self.server.over.wait(0.05):
                self.wfile.write(b" ")
        elif word in ("500", "401", "404", "429"):
            self.send(int(word), {"error": {"message": f"no {KEY} here", "type": "x"}})
        elif word == "garbage":
            self.send_bytes(200, b'{"choices": [{"mess')
        elif word == "together":
            # Until two others are under way, too; then a moment for those that are too many.
            while self.server.most < 3 and not self.server.over.wait(0.01):
                pass
            self.server.over.wait(0.3)
            self.complete(RIGHT)
        elif word == "third":
            self.complete(RIGHT if turn == 3 else WRONG)
        else:
            self.complete(*{"right": (RIGHT,), "cut": (RIGHT, "length"), "wrong": (WRONG,)}[word])

    def complete(self, text: str, finish_reason: str = "stop") -> None:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        self.send(200, {"object": "chat.completion", "model": "teacher", "choices": [choice]})

    def send(self, status: int, content: dict[str, Any]) -> None:
        self.send_bytes(status, json.dumps(content).encode())

    def send_bytes(self, status: int, content: bytes) -> None:
        with self.server.lock:
            # Before the client can know, and ask the next.
            self.server.now -= 1
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def settings_of(url: str, **changes: Any) -> ServerSettings:
    """One try, and time enough for a busy machine, unless told otherwise."""
    return ServerSettings(
        **{
            "url": url,
            "model": "teacher",
            "api_key_env": None,
            "tries": 1,
            "temperature": None,
            "max_tokens": None,
            "timeout_s": 60.0,
            "step_timeout_s": 120.0,
            "concurrency": 8,
            **changes,
        }
    )
