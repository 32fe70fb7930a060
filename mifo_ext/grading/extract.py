"""Where in a response the answer stands.

Every function is one linear pass: responses of 200,000 characters, thousands of boxes and
unbalanced braces all cost milliseconds.
"""

import re
from typing import NamedTuple

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_UNBRACED = re.compile(r"\s*(-?\d[\d.,]*\d|-?\d|[A-Za-z](?![A-Za-z])|\\[A-Za-z]+(?:\{[^{}]*\})*)")
_JOIN = re.compile(
    r"[\s$]*(?:,|;|,?\s*(?:and|or)|\\text\{\s*(?:and|or)\s*\})[\s$]*"
    r"(?:[A-Za-z](?:_\{?\w{1,3}\}?)?\s*=)?[\s$]*"
)
_LINE = re.compile(
    r"(?:\banswer(?:\s+(?:here|to\s+(?:the|this)\s+(?:question|problem)))?\s*"
    r"(?:\*\*|__)?\s*(?:is\b|are\b|:|=)|\b(?:correct|right)\s+(?:option|choice)\s+is\b|####|答案(?:是|为|:|\uff1a))"
    r"\s*(?:\*\*|__)?\s*:?[ \t]*(?:\n\s*)?(?P<answer>[^\n]{1,400})",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[\w})$*%\]!°])[.。](?=\s|$)")
_BOLD_LAST = re.compile(r"(?:^|[\s:])\*\*([^*\n]{1,200})\*\*[.。]?\s*$")
_LETTER_LINE = re.compile(r"\**\(?([A-J])\)?\**\.?")

_STATED = re.compile(
    r"(\$[^$\n]{1,100}\$|-?\d[\d.,]*)\s+is\s+(?:the|our|my)\s+(?:final\s+|correct\s+)?answer\b",
    re.IGNORECASE,
)
_WORDS = re.compile(r"(?<!\\)(?<![A-Za-z])[A-Za-z]{2,}|\n")
BARE_AT_MOST = 60
"""A response of at most this many characters, without a word, is nothing but its answer."""

ANSWER_LINE_TAIL = 500
"""An answer line further than this many characters from the end was not the final word."""

_OPENING_WORDS = re.compile(
    r"(?:that|not|in|to|for|this|we|it|which|because|obtained|given)\s", re.I
)


class Answer(NamedTuple):
    """The stretch of text to be compared, and where it was found."""

    text: str
    source: str
    """`box`, `boxes`, `tag`, `line` or `bare`."""


class Box(NamedTuple):
    """One closed box: positions of the command and past its end."""

    start: int
    end: int
    content: str


def after_thinking(response: str) -> str | None:
    """The part of a response behind its thinking; None when the thinking never ended."""
    _, closed, rest = response.rpartition("</think>")
    if closed:
        return rest
    return None if "<think>" in response else response


def closed_boxes(text: str) -> list[Box]:
    r"""All closed, non-empty `\boxed` and `\fbox`, outermost only, in order."""
    return _boxes(text)[0]


def _boxes(text: str) -> tuple[list[Box], bool]:
    """The closed boxes, and whether there is one that never closes."""
    starts = [match.span() for match in _BOX.finditer(text)]
    if not starts:
        return [], False

    is_open = False
    closing = _closing_braces(text)
    boxes: list[Box] = []
    for start, end in starts:
        if boxes and start < boxes[-1].end:
            continue  # inside the box before
        brace = end
        while brace < len(text) and text[brace] in " \t\n":
            brace += 1
        if brace < len(text) and text[brace] == "{":
            close = closing.get(brace)
            if close is None:
                is_open = True
                continue
            box = Box(start, close + 1, text[brace + 1 : close])
        else:
            found = _UNBRACED.match(text, end)
            if found is None:
                continue
            box = Box(start, found.end(), found.group(1))
        if not _is_blank(box.content):
            boxes.append(box)
    return boxes, is_open


def find_answer(text: str, *, require_box: bool, letter: bool) -> Answer | None:
    """The final answer of a text whose thinking part is already cut off.

    Args:
        text: what follows the thinking.
        require_box: accept nothing but a box.
        letter: the gold is an option letter, so a last line with only a letter is an answer.

    Returns:
        The answer, or None when the text does not commit to one.
    """
    boxes, is_open = _boxes(text)
    if boxes:
        group = _last_group(text, boxes)
        if len(group) > 1:
            return Answer(", ".join(box.content for box in group), "boxes")
        return Answer(group[0].content, "box")
    if require_box or is_open:
        return None
    before, closed, _ = text.rpartition("</answer>")
    _, opened, tagged = before.rpartition("<answer>")
    if closed and opened and not _is_blank(tagged):
        return Answer(tagged.strip(), "tag")
    return _answer_line(text, letter=letter)


def _closing_braces(text: str) -> dict[int, int]:
    """For each opening brace that closes, where it does. Escaped braces do not count."""
    closing: dict[int, int] = {}
    open_at: list[int] = []
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            open_at.append(match.start())
        elif match.group() == "}" and open_at:
            closing[open_at.pop()] = match.start()
    return closing


def _is_blank(content: str) -> bool:
    return not content.strip(" \t\r\n$\\,;:!~{}")


def _last_group(text: str, boxes: list[Box]) -> list[Box]:
    """The last box, with those that only a comma, "and" or "or" separates from it."""
    first = len(boxes) - 1
    while first > 0:
        between = text[boxes[first - 1].end : boxes[first].start]
        if len(between) > 40 or not _JOIN.fullmatch(between):
            break
        first -= 1
    return boxes[first:]


def _answer_line(text: str, *, letter: bool) -> Answer | None:
    tail = text[-(ANSWER_LINE_TAIL + 400) :]
    for match in reversed(list(_LINE.finditer(tail))):
        if len(tail) - match.end() > ANSWER_LINE_TAIL:
            break
        said = _SENTENCE_END.split(match.group("answer"))[0].strip().strip("*").strip()
        if said and not _is_blank(said) and not _OPENING_WORDS.match(said):
            return Answer(said, "line")
    last_line = tail.rstrip().rsplit("\n", 1)[-1].strip()
    if letter and (match_letter := _LETTER_LINE.fullmatch(last_line)):
        return Answer(match_letter.group(1), "line")
    if stated := list(_STATED.finditer(last_line)):
        return Answer(stated[-1].group(1), "line")
    if len(text.strip()) <= BARE_AT_MOST and not _WORDS.search(text):
        return Answer(text.strip(), "bare") if not _is_blank(text) else None
    if bold := _BOLD_LAST.search(last_line):
        return Answer(bold.group(1).strip(), "line")
    return None
