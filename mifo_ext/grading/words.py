"""Answers that are letters or words."""

import re

from mifo_ext.grading.tokens import word_set

_LETTER_GOLD = re.compile(r"\(?([A-J])\)?[.)]?")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_LETTER_ANSWER = re.compile(
    r"(?:the\s+)?(?:(?:correct\s+)?(?:answer|option|choice)\s*(?:is\s*)?:?\s*)?"
    r"(?:\(\s*(?P<round>[A-Ja-j])\s*\)|\[\s*(?P<square>[A-Ja-j])\s*\]"
    r"|(?P<marked>[A-Ja-j])\s*[.):]|(?P<upper>[A-J])(?=\s|$|\\|-|,)|(?P<alone>[a-j])\s*$)"
    r"(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_ANOTHER = re.compile(
    r"(?:^|\b)(?:or|and|&|,|/)\s*(?:option\s*)?(?:\([A-J]\)|[A-J](?:[.):]|\s*$))", re.IGNORECASE
)
_ARTICLES = re.compile(r"\b(?:the|a|an|is|are|it|its|it's|they)\b")
_SYNONYMS = (
    frozenset({"no solution", "no solutions", "none", "\\emptyset", "no real solution",
               "no real solutions", "empty set", "\\{\\}", "there no solution",
               "there no solutions", "no such", "does not exist", "dne", "not exist"}),
    frozenset({"infinity", "\\infty", "+\\infty", "infinite"}),
    frozenset({"all real numbers", "\\r", "(-\\infty,\\infty)", "(-\\infty,+\\infty)", "all reals",
               "all real"}),
    frozenset({"yes", "true"}),
    frozenset({"no", "false"}),
)  # fmt: skip
_NOUNS = word_set(
    "function functions number numbers integer integers sequence series matrix triangle "
    "quadrilateral polygon curve graph day direction color colour team player school city "
    "student person o'clock line plane circle box method angle group"
)
_COUNTING = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
NUMBER_WORDS = dict(
    zip(
        _COUNTING.split(),
        range(21),
        strict=True,
    )
)
"""Values of the words up to twenty."""
_SHORT_WORDS = word_set("no yes odd all one two six ten red day up true both dne")
_FORMULA_WORDS = word_set("sqrt frac arcsin arccos arctan sinh cosh tanh alpha beta theta")


def gold_letter(gold: str) -> str | None:
    r"""The option letter of a normalised gold such as `B`, `(C)` or `\text{(C)}`."""
    match = _LETTER_GOLD.fullmatch(_TEXT.sub(r"\1", gold).strip())
    return match.group(1) if match else None


def answer_letter(answer: str) -> str | None:
    """The one option letter an answer names, with or without the option's text.

    Returns:
        The letter in upper case; None when there is none, or more than one.
    """
    plain = _TEXT.sub(r" \1 ", answer).replace("{", "").replace("}", "").replace("*", "")
    match = _LETTER_ANSWER.fullmatch(plain.strip(" .\"'"))
    if match is None or _ANOTHER.search(match["rest"]):
        return None
    letter = (
        match["round"] or match["square"] or match["marked"] or match["upper"] or match["alone"]
    )
    return str(letter).upper()


def is_words(gold: str) -> bool:
    """Whether a normalised gold is prose rather than mathematics."""
    plain = _TEXT.sub("", gold).strip(" .,;()'\"-")
    if plain != gold.strip(" .,;()'\"-") and not plain:
        content = " ".join(_TEXT.findall(gold)).strip()
        return bool(re.search(r"[A-Za-z]", content)) and not re.fullmatch(r"[A-Za-z]", content)
    words = re.findall(r"[A-Za-z']+", gold)
    if not words or not re.fullmatch(r"[A-Za-z' .,;:\-()]+", gold):
        return False
    return any(
        (len(word) >= 4 or word.lower() in _SHORT_WORDS) and word not in _FORMULA_WORDS
        for word in words
    )


def means_nothing(gold: str) -> bool:
    """Whether a normalised gold is the empty set, which is often put in words."""
    return gold.replace(" ", "") in ("\\emptyset", "\\{\\}")


def bare_words(text: str) -> str:
    """Lower-case words without articles, punctuation and markup."""
    plain = _TEXT.sub(r" \1 ", text).casefold()
    plain = re.sub(r"[{}]", " ", plain) if "\\{" not in plain else plain
    plain = re.sub(r"(?<=\s)['\"`]|['\"`.,;:!?]+(?=\s|$)", " ", " " + plain + " ")
    plain = _ARTICLES.sub(" ", plain.replace("-", " ") if "\\" not in plain else plain)
    return " ".join(plain.split())


def same_words(gold: str, answer: str) -> bool:
    """Whether two texts say the same: equal words, synonyms, or one harmless noun more."""
    left, right = bare_words(gold), bare_words(answer)
    if left == right or left.replace(" ", "") == right.replace(" ", ""):
        return bool(left)
    if any(left in group and right in group for group in _SYNONYMS):
        return True
    shorter, longer = sorted((left.split(), right.split()), key=len)
    extra = longer[len(shorter) :]
    return (
        bool(shorter)
        and longer[: len(shorter)] == shorter
        and len(extra) == 1
        and extra[0] in _NOUNS
    )
