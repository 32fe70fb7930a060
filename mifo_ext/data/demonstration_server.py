"""Demonstrations by a stronger model behind an OpenAI-compatible server.

Reasons that begin with `server_` are the server's: the question is asked again the next time it
is hard. All others stand for the rest of this start.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mifo_ext.data.chat_answers import Answer, answer_in, reason_against
from mifo_ext.data.demonstration_sources import Found, Messages, Question
from mifo_ext.data.recorded_answers import RecordedAnswer, RecordedAnswers
from mifo_ext.settings_demonstrations import ServerSettings

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

NOT_ASKED = "not_asked"
UNREACHABLE = "server_unreachable"
TIMEOUT = "server_timeout"
ERROR = "server_error"
REFUSED = "server_refused"
GARBAGE = "server_garbage"
SILENT = {UNREACHABLE, TIMEOUT}
"""Of a server that is not there."""

CONNECT_S = 5.0
"""A server that is there takes a connection at once, however long it then thinks."""
RETRIES = 2
"""The client's own, with growing pauses: lost connections, errors 5xx, too many requests."""
PASSING = {408, 409, 429}
"""4xx by number, but over after a while."""
SAID = 400
"""Characters of a notice: a server's error can be a whole web page."""
NO_KEY = "none"
"""Sent where there is no key: the client would otherwise take `OPENAI_API_KEY`, whatever the
address."""


class DemonstrationServer:
    """Asks a server for demonstrations, many questions at once, and keeps what verifies.

    The network is used in `prefetch` only, for a bounded time. After a step in which the server
    was silent, the next one asks a single question first, and the others if that is answered.

    Args:
        settings: the server, and how it is asked.
        answers: those of earlier starts; new ones are added.
        max_response_length: of the run, in tokens; longest answer where the settings name none.

    Raises:
        ValueError: if the variable that the settings name holds no key.
    """

    first_look = 8
    advice = "look at interleave.demonstrations.server: address, model, key, max_tokens"

    def __init__(
        self, settings: ServerSettings, *, answers: RecordedAnswers, max_response_length: int
    ) -> None:
        if problem := key_problem(settings):
            raise ValueError(problem)
        self._settings = settings
        self._key = _key(settings)
        self._answers = answers
        self._max_tokens = settings.max_tokens or max_response_length
        self._reasons: dict[str, str] = {}
        self._said: set[str] = set()
        self._silent = False
        if settings.api_key_env and _is_open(settings.url):
            self._say("the key goes over the network unencrypted; https would hide it")

    def covers(self, messages: Messages) -> bool:
        """True: anything may be asked."""
        return True

    def find(self, question: Question) -> Found:
        """Look up what `prefetch` got, in this start or an earlier one."""
        text = self._answers.get(question.id)
        if text is not None:
            return Found(text)
        return Found(None, self._reasons.get(question.id, NOT_ASKED))

    def prefetch(self, questions: Sequence[Question]) -> None:
        """Ask for what is not known yet; returns after `step_timeout_s` at the latest.

        Args:
            questions: those whose demonstration is wanted now. Known answers, and questions that
                the model failed in this start, are not asked for again.

        Raises:
            OSError: if an answer cannot be written down.
        """
        until = time.monotonic() + self._settings.step_timeout_s
        wanted = list({q.id: q for q in questions if self._is_wanted(q)}.values())
        if self._silent and len(wanted) > 1:
            probe, *wanted = wanted
            self._ask([probe], until=until)
            if self._silent:
                reason = self._reasons[probe.id]
                self._reasons.update({question.id: reason for question in wanted})
                return
        if wanted:
            self._ask(wanted, until=until)

    def _is_wanted(self, question: Question) -> bool:
        found = self.find(question)
        return found.text is None and (found.reason == NOT_ASKED or is_the_servers(found.reason))

    def _ask(self, questions: Sequence[Question], *, until: float) -> None:
        # verl's thread may have an event loop running: a thread of its own.
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(lambda: asyncio.run(self._ask_all(questions, until=until))).result()
        self._silent = {self.find(question).reason for question in questions} <= SILENT

    async def _ask_all(self, questions: Sequence[Question], *, until: float) -> None:
        places = asyncio.Semaphore(self._settings.concurrency)
        async with self._client() as client:
            asked = {asyncio.create_task(self._answer(client, q, places)): q for q in questions}
            done, late = await asyncio.wait(asked, timeout=max(0.0, until - time.monotonic()))
            for task in late:
                task.cancel()
                self._fail(asked[task], TIMEOUT, "the time of the step was over")
            await asyncio.gather(*late, return_exceptions=True)
        for task in done:
            task.result()  # a full disk is not the server's fault

    async def _answer(
        self, client: AsyncOpenAI, question: Question, places: asyncio.Semaphore
    ) -> None:
        """Ask one question until an answer verifies, the tries are over, or the server fails."""
        async with places:
            for _ in range(self._settings.tries):
                answer = await self._attempt(client, question)
                if answer is None:
                    return
                # Grading may take a second, in which the others' clocks run on.
                reason = await asyncio.to_thread(reason_against, answer, question.ground_truth)
                if reason is None:
                    self._answers.add(self._record(question, answer))
                    return
                self._fail(question, reason, f"finish_reason {answer.finish_reason!r}")

    async def _attempt(self, client: AsyncOpenAI, question: Question) -> Answer | None:
        """Get one answer; None if the server failed, which is then written down."""
        import openai

        try:
            body = await asyncio.wait_for(self._post(client, question), self._settings.timeout_s)
        except (asyncio.TimeoutError, openai.APITimeoutError):
            self._fail(question, TIMEOUT, f"no answer in {self._settings.timeout_s:g} s")
        except openai.APIConnectionError as error:
            self._fail(question, UNREACHABLE, str(error.__cause__ or error))
        except openai.APIStatusError as error:
            self._fail(question, reason_of(error.status_code), _detail(error))
        else:
            answer = answer_in(body)
            if answer is None:
                self._fail(question, GARBAGE, "not a chat completion")
            return answer
        return None

    async def _post(self, client: AsyncOpenAI, question: Question) -> bytes:
        import openai

        temperature = self._settings.temperature
        # Raw: of a body that is no chat completion the client makes whatever it can.
        response = await client.chat.completions.with_raw_response.create(
            model=self._settings.model,
            messages=[dict(message) for message in question.messages],  # type: ignore[misc]
            max_tokens=self._max_tokens,
            temperature=openai.omit if temperature is None else temperature,
        )
        return bytes(response.http_response.content)

    def _client(self) -> AsyncOpenAI:
        import openai

        return openai.AsyncOpenAI(
            base_url=self._settings.url,
            api_key=self._key,
            timeout=openai.Timeout(self._settings.timeout_s, connect=CONNECT_S),
            max_retries=RETRIES,
        )

    def _record(self, question: Question, answer: Answer) -> RecordedAnswer:
        return RecordedAnswer(
            question_id=question.id,
            model=self._settings.model,
            finish_reason=answer.finish_reason,
            prompt=[dict(message) for message in question.messages],
            solution=answer.text,
        )

    def _fail(self, question: Question, reason: str, detail: str) -> None:
        self._reasons[question.id] = reason
        if is_the_servers(reason) and reason not in self._said:
            self._said.add(reason)
            self._say(f"{reason} (said once, counted from now on): {detail}")

    def _say(self, text: str) -> None:
        shown = text if self._key == NO_KEY else text.replace(self._key, "***")
        print(f"mifo: demonstrations: {shown[:SAID]}", file=sys.stderr, flush=True)


def is_the_servers(reason: str) -> bool:
    """Whether a reason is the server's fault, so that the question may be asked again."""
    return reason.startswith("server_")


def reason_of(status: int) -> str:
    """Tell a request that will never do (a wrong key, an unknown model) from a server in trouble.

    Args:
        status: of HTTP, 400 up.
    """
    return REFUSED if status < 500 and status not in PASSING else ERROR


def key_problem(settings: ServerSettings) -> str | None:
    """Why there is no key to send, as a sentence; None if there is one, or none is wanted.

    Neither the key nor the variable's name is in it: the name may be a key put in its place.
    """
    if settings.api_key_env is None:
        return None
    key = _key(settings)
    setting = "`interleave.demonstrations.server.api_key_env`"
    if not key:
        return (
            f"{setting} must name an environment variable that holds the key, but what it names "
            "is unset or empty. Export it where the run is started (with a Ray cluster that is "
            "up already: before `ray start`)."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        return (
            f"{setting} must name a variable with a key of letters, digits and signs, but what "
            "it holds has a blank or something else that no header can carry."
        )
    return None


def _key(settings: ServerSettings) -> str:
    if settings.api_key_env is None:
        return NO_KEY
    return os.environ.get(settings.api_key_env, "").strip()


def _is_open(url: str) -> bool:
    """Whether others on the network can read along."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")


def _detail(error: APIStatusError) -> str:
    # Some servers repeat in part a key that they do not know.
    if error.status_code in (401, 403):
        return f"HTTP {error.status_code}, the key is missing or not accepted"
    return " ".join(error.message.split())
