"""Where demonstrations come from: the node `interleave.demonstrations`, as frozen dataclasses."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from mifo_ext.node_reader import NOT_NEGATIVE, POSITIVE, Kind, NodeReader, one_of, or_null, whole

Source: TypeAlias = Literal["dataset", "file", "server"]


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


PATH = Kind[str]("the path of a .parquet, .jsonl or .json file", _is_text, str)
ADDRESS = Kind[str]("an address such as http://host:8000/v1", _is_text, str)
MODEL = Kind[str]("the name of a model on the server", _is_text, str)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What was written there may be the key itself: any text passes here, and is then judged by `NAME`
# without being shown.
VARIABLE = Kind[str]("the name of an environment variable", lambda x: isinstance(x, str), str)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """An OpenAI-compatible server, and how it is asked."""

    url: str
    """Its address up to the version, http or https: `http://host:8000/v1`. No user, no password,
    no query: they would be logged."""

    model: str
    """The model's name on that server."""

    api_key_env: str | None
    """Name of the environment variable that holds the key. Null: no key is sent."""

    tries: int
    """Answers asked for per question, at least 1: one after the other, until one verifies. At
    temperature 0 they would all be the same, so it must then be 1."""

    temperature: float | None
    """Sampling temperature, at least 0. Null: the server's own."""

    max_tokens: int | None
    """Longest answer in the server's tokens, at least 1; a longer one is cut, and not used. Null:
    `data.max_response_length`."""

    timeout_s: float
    """Most seconds for one answer, the client's retries included; above 0."""

    step_timeout_s: float
    """Most seconds that a step waits for all its answers, at least `timeout_s`. What is not there
    by then is asked again the next time its question is hard."""

    concurrency: int
    """Questions asked at the same time, at least 1."""


@dataclass(frozen=True, kw_only=True)
class DemonstrationSettings:
    """Where a hard question's demonstration comes from."""

    source: Source
    """`dataset`, the training file's column `target`; `file`, another file with questions and
    solutions; `server`, a stronger model, whose answers are verified before they are used."""

    file: str | None
    """The file of `source: file`, .parquet, .jsonl or .json. Null with the other sources."""

    server: ServerSettings | None
    """The server of `source: server`. None with the other sources."""


def read_demonstrations(reader: NodeReader) -> DemonstrationSettings:
    """Read the node; its problems go to the reader's.

    Args:
        reader: of the node `interleave.demonstrations`; an empty one is `source: dataset`.

    Returns:
        The settings, not to be used if there are problems.
    """
    source: Source = reader.take("source", one_of(Source), default="dataset")
    file = reader.take_if(source == "file", "file", PATH, otherwise="")
    server = _read_server(reader.below("server", ServerSettings), asked=source == "server")
    return DemonstrationSettings(
        source=source, file=file or None, server=server if source == "server" else None
    )


def _read_server(reader: NodeReader, *, asked: bool) -> ServerSettings:
    settings = ServerSettings(
        url=reader.take_if(asked, "url", ADDRESS, otherwise=""),
        model=reader.take_if(asked, "model", MODEL, otherwise=""),
        api_key_env=reader.take("api_key_env", or_null(VARIABLE), default=None),
        tries=reader.take_if(asked, "tries", whole(1), otherwise=1),
        temperature=reader.take("temperature", or_null(NOT_NEGATIVE), default=None),
        max_tokens=reader.take("max_tokens", or_null(whole(1)), default=None),
        timeout_s=reader.take_if(asked, "timeout_s", POSITIVE, otherwise=1.0),
        step_timeout_s=reader.take_if(asked, "step_timeout_s", POSITIVE, otherwise=1.0),
        concurrency=reader.take_if(asked, "concurrency", whole(1), otherwise=1),
    )
    reader.problems += _cross_checks(settings)
    return settings


def _cross_checks(server: ServerSettings) -> list[str]:
    """Check what one value says about another. One that is wrong itself is None here."""
    path = "interleave.demonstrations.server"
    problems = []
    if server.url and (problem := url_problem(server.url)):
        problems.append(f"`{path}.url` {problem}")
    if server.api_key_env is not None and not NAME.fullmatch(server.api_key_env):
        problems.append(
            f"`{path}.api_key_env` must be the name of an environment variable, but is something "
            "else (not shown: it may be a key). Put the key into a variable, and its name here."
        )
    if server.temperature == 0 and server.tries and server.tries > 1:
        problems.append(
            f"`{path}.tries` must be 1 where `temperature` is 0, but is {server.tries}: every try "
            "would give the same answer."
        )
    waits = server.timeout_s, server.step_timeout_s
    if None not in waits and waits[0] > waits[1]:
        problems.append(
            f"`{path}.step_timeout_s` must be at least `timeout_s` ({waits[0]:g}), but is "
            f"{waits[1]:g}: no answer could take its time."
        )
    return problems


def url_problem(url: str) -> str | None:
    """Why an address cannot be used, as the end of a sentence; None if it can.

    The address itself is not in it: it may hold a password.
    """
    if "@" in url or "?" in url or "#" in url:
        return (
            "must hold no user, password, query or fragment, but does (not shown: it may be "
            "secret). Name the variable with the key in `api_key_env`."
        )
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is none
        sound = False
    if sound and not any(letter.isspace() for letter in url):
        return None
    return f"must be an address such as http://host:8000/v1, but is {url!r}."
