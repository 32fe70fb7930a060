# ruff: noqa: RUF001  (look-alike characters are what this file is about)
r"""One spelling for the many ways of writing the same LaTeX.

The result is still LaTeX-like text, in a smaller language: `*` for every product sign, `\frac`
for every fraction command, `\text{…}` for every upright word, `°` for degrees, no `$`, no
spacing commands, no `\left`/`\right`.
"""

import re
import unicodedata
from functools import lru_cache

_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta",
    "η": "eta", "θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi",
    "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "phi", "ϕ": "phi", "χ": "chi",
    "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda",
    "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega", "ℏ": "hbar",
}  # fmt: skip
_SYMBOLS = {
    **{char: f"\\{name} " for char, name in _GREEK.items()},
    **dict.fromkeys("−–—‐‑‒﹣－", "-"),
    **dict.fromkeys("×✕✖⋅·∙•∗⨯", "*"),
    **dict.fromkeys("÷∕⁄", "/"),
    **dict.fromkeys("≤⩽≦", "\\le "),
    **dict.fromkeys("≥⩾≧", "\\ge "),
    **dict.fromkeys("′’‘", "'"),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("⟨〈", "("),
    **dict.fromkeys("⟩〉", ")"),
    "≠": "\\ne ", "≈": "\\approx ", "≃": "\\approx ", "∞": "\\infty ", "∪": "\\cup ",
    "∩": "\\cap ", "∅": "\\emptyset ", "⌀": "\\emptyset ", "∈": "\\in ", "ℝ": "\\R ",
    "±": "\\pm ", "∓": "\\mp ", "°": "°", "º": "°", "˚": "°", "℃": "°C", "。": ".", "、": ",",
    "∶": ":", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]", "⌊": "\\lfloor ", "⌋": "\\rfloor ",
    "⌈": "\\lceil ", "⌉": "\\rceil ", "€": "", "£": "", "¥": "", "₹": "", "…": "\\ldots ",
}  # fmt: skip
_SYMBOL_TABLE = str.maketrans(_SYMBOLS)
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni")
_SUB = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙ", "0123456789+-n")
_SUPER_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ]+")
_SUB_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋ₙ]+")
_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?|[A-Za-zπ])")

_SYSTEM = re.compile(
    r"\\begin\s*\{(?:cases|aligned|gathered)\}([^&]*?)\\end\s*\{(?:cases|aligned|gathered)\}"
)
_IDLE_SPACE = re.compile(r"(?<!\d) | (?!\d)")
_NESTED_TEXT = re.compile(r"\\text\s*\{([^{}]*)\{([^{}]*)\}([^{}]*)\}")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\\\s*\[[^\]]*\]", r"\\\\"),
        (r"\{([,:])\}", r"\1"),
        (r"\\\$\s*(-?\d[\d,]*(?:\.\d+)?)(?!\s*\\text)", r"\1\\text{ dollars}"),
        (r"\\\$", ""),
        (r"(?<!\\)\\[()\[\]]|\$", " "),
        (r"\\(?:left|right)\s*\.", ""),
        (r"\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])", ""),
        (r"\\[hv]space\*?\{[^{}]*\}", " "),
        (
            r"\\(?:displaystyle|textstyle|limits|nolimits|rm|bf|it|mathstrut|strut|"
            r"hfill)(?![A-Za-z])",
            " ",
        ),
        (r"\\!", ""),
        (
            r"(?<!\\)\\[,;:> ]|(?<!\\)\\(?=\s)|~|\\(?:quad|qquad|thinspace|enspace|medspace|"
            r"thickspace)(?![A-Za-z])",
            " ",
        ),
        (r"\\(?:d|t|c|nice|s)frac(?![A-Za-z])", r"\\frac"),
        (r"\\[dt]binom(?![A-Za-z])", r"\\binom"),
        (
            r"\\(?:mathbf|mathit|mathsf|mathcal|bm|boldsymbol|pmb|boxed|fbox|underline|vec|"
            r"overrightarrow|displaylines)\s*(?=\{)",
            "",
        ),
        (
            r"\\(?:textbf|textit|textrm|textsf|texttt|mbox|mathrm|mathtt|mathop|emph|"
            r"textnormal|operatorname\*?|hbox)\s*(?=\{)",
            r"\\text",
        ),
        (r"\\text\s+(?=\{)", r"\\text"),
        (
            r"\\text\s*\{\s*(arcsinh|arccosh|arctanh|arcsin|arccos|arctan|arcsec|arccsc|arccot|sinh|cosh|tanh|sin|"
            r"cos|tan|sec|csc|cot|log|ln|exp|lcm|gcd|max|min|sgn|mod)\s*\}",
            r"\\\1 ",
        ),
        (r"\\text\s*\{\s*(-?\d[\d.,]*)\s+([A-Za-z][^{}]*)\}", r"\1\\text{ \2}"),
        (r"\\text\s*\{\s*([deij]|-?\d[\d.,]*)\s*\}", r"\1"),
        (r"_\s*\\text\s*\{\s*([^{}]*?)\s*\}", r"_{\1}"),
        (r"_\s*\{\s*\\text\s*\{\s*([^{}]*?)\s*\}\s*\}", r"_{\1}"),
        (r"\\(?:leqslant|leq|le|leqq)(?![A-Za-z])", r"\\le "),
        (r"\\(?:geqslant|geq|ge|geqq)(?![A-Za-z])", r"\\ge "),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"!=", r"\\ne "),
        (r"\\neq?(?![A-Za-z])", r"\\ne "),
        (r"\\(?:cdot|times|ast|cdotp|bullet)(?![A-Za-z])", "*"),
        (r"\*\*", "^"),
        (r"\\div(?![A-Za-z])", "/"),
        (r"\\lbrace(?![A-Za-z])", r"\\{"),
        (r"\\rbrace(?![A-Za-z])", r"\\}"),
        (r"\\langle(?![A-Za-z])", "("),
        (r"\\rangle(?![A-Za-z])", ")"),
        (r"\\lbrack(?![A-Za-z])", "["),
        (r"\\rbrack(?![A-Za-z])", "]"),
        (r"\\(?:lvert|rvert|vert|mid|lVert|rVert)(?![A-Za-z])", "|"),
        (r"\\(?:varnothing|O)(?![A-Za-z])", r"\\emptyset "),
        (r"\\infin(?![A-Za-z])", r"\\infty "),
        (r"\\mathbb\s*\{?\s*R\s*\}?|\\Reals?(?![A-Za-z])|\\real(?![A-Za-z])", r"\\R "),
        (
            r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])|\\degree(?![A-Za-z])|"
            r"\\textdegree(?![A-Za-z])",
            "°",
        ),
        (r"\\%|\\text\s*\{\s*(?:%|\\%|percent)\s*\}", "%"),
        (r"(?<=\d)\s*(?:percent|per cent|pct)\b", "%"),
        (r"\\colon(?![A-Za-z])", ":"),
        (r"\\(?:cdots|dots|dotsc|ldots)(?![A-Za-z])|\.\.\.", r"\\ldots "),
        (r"\\varepsilon(?![A-Za-z])", r"\\epsilon"),
        (r"\\varphi(?![A-Za-z])", r"\\phi"),
        (r"\^\s*\{\s*\\prime\s*\}|\\prime(?![A-Za-z])", "'"),
        (r"\\tg(?![A-Za-z])", r"\\tan"),
        (r"\\(?:ctg|cotg)(?![A-Za-z])", r"\\cot"),
        (r"\\(?:p?mod|bmod)(?![A-Za-z])", r"\\mod"),
        (r"\b(?:np|numpy|math|sp|sympy|cmath)\.(?=[a-z])", ""),
        (r"(?<=\d)[ ]*[xX](?=[ ]*10\s*\^)", "*"),
        (
            r"\\frac\s*\{\s*\\text\s*\{([^{}]*)\}\s*\}\s*\{\s*\\text\s*\{([^{}]*)\}\s*\}",
            r"\\text{\1/\2}",
        ),
        (r"\s+", " "),
    )
)  # fmt: skip


@lru_cache(maxsize=4096)
def normalise(text: str) -> str:
    """The canonical spelling of a short answer (see the module docstring)."""
    text = fold_unicode(text)
    text = _unmark(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    text = _NESTED_TEXT.sub(r"\\text{\1\2\3}", _NESTED_TEXT.sub(r"\\text{\1\2\3}", text))
    text = _SYSTEM.sub(lambda system: system[1].replace("\\\\", ","), text)
    return strip_wrapping(text)


def fold_unicode(text: str) -> str:
    """Replace typographic characters by their LaTeX or ASCII meaning.

    Superscripts, vulgar fractions and roots come first: NFKC would turn `x²` into `x2`.
    Invisible format characters go; control characters stay, so that `4<NUL>2` is not read as 42.
    """
    if text.isascii():
        return text
    text = _SUPER_RUN.sub(lambda run: f"^{{{run.group().translate(_SUPER)}}}", text)
    text = _SUB_RUN.sub(lambda run: f"_{{{run.group().translate(_SUB)}}}", text)
    text = _ROOT.sub(r"\\sqrt{\1}", text).replace("√", "\\sqrt")
    text = "".join(_unfold_fraction(char) for char in text if unicodedata.category(char) != "Cf")
    text = text.translate(_SYMBOL_TABLE)
    return unicodedata.normalize("NFKC", text).translate(_SYMBOL_TABLE)


def _unfold_fraction(char: str) -> str:
    if char.isascii() or unicodedata.category(char) != "No":
        return char
    above, slash, below = unicodedata.normalize("NFKC", char).partition("⁄")
    return f"\\frac{{{above}}}{{{below}}}" if slash and below else char


def _unmark(text: str) -> str:
    """Drop Markdown emphasis, quotes and back-ticks around the whole text."""
    text = text.strip()
    for mark in ("**", "__", "`", '"', "'"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            inner = text[len(mark) : -len(mark)]
            if mark not in inner:
                text = inner.strip()
    return text


def strip_wrapping(text: str) -> str:
    """Drop sentence marks at the end and braces or parentheses around everything."""
    text = text.strip()
    while text and text[-1] in ".,;:\\":
        text = text[:-1].rstrip()
    return unwrap(text)


def unwrap(text: str) -> str:
    """Drop pairs of braces or parentheses around the whole text, in one linear pass.

    A pair of parentheses around a comma is a tuple or an interval and stays; plain braces around
    a comma were meant as those of a set.
    """
    partner: dict[int, int] = {}
    comma_inside: list[bool] = []
    has_comma: dict[int, bool] = {}
    stack: list[int] = []
    escaped = False
    for position, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in "{([":
            stack.append(position)
            comma_inside.append(False)
        elif char in "})]":
            if not stack:
                return text
            opened = stack.pop()
            has_comma[opened] = comma_inside.pop()
            if "{([".index(text[opened]) == "})]".index(char):
                partner[opened] = position
        elif char in ",;" and comma_inside:
            comma_inside[-1] = True
    start, end = 0, len(text)
    while start < end and partner.get(start) == end - 1:
        if text[start] == "[" or (text[start] == "(" and has_comma[start]):
            break
        if (
            text[start] == "{"
            and has_comma[start]
            and not _GROUPED.fullmatch(text, start + 1, end - 1)
        ):
            return f"\\{{{text[start + 1 : end - 1]}\\}}"
        start, end = start + 1, end - 1
        while start < end and text[start] == " ":
            start += 1
        while start < end and text[end - 1] == " ":
            end -= 1
    return text[start:end]


def squeeze(text: str) -> str:
    """The text without the spaces that mean nothing; those between digits may."""
    return _IDLE_SPACE.sub("", text)
