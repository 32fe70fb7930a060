r"""Reading a normalised answer as an algebraic expression.

The grammar is that of written answers: implicit products, mixed numbers, `\frac12`, powers of
functions, subscripts. What it does not know it refuses, so that a half-read formula is never
taken for a number.
"""

from collections.abc import Callable

from mifo_ext.grading.nodes import Node, number
from mifo_ext.grading.tokens import Token, UnreadableError, number_value, tokenize, word_set

CHARACTERS_AT_MOST = 1000
DEPTH_AT_MOST = 50
_ACCENTS = word_set("dot ddot hat bar tilde overline widehat check")
_CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|"}
_SYMBOL_COMMANDS = word_set(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar "
    "ell nabla partial"
)
_OPERATORS = frozenset({"mod", "over", "choose", "rfloor", "rceil"})
_NAMED_FUNCTIONS = frozenset("fghFGHP")


def read_expression(text: str) -> Node:
    """Parse a normalised answer.

    Raises:
        UnreadableError: the text is too long, too deep, or not an expression.
    """
    if len(text) > CHARACTERS_AT_MOST:
        raise UnreadableError(f"more than {CHARACTERS_AT_MOST} characters")
    reader = _Reader(tokenize(text))
    node = reader.stacked()
    if reader.peek() is not None:
        raise UnreadableError(f"unexpected {reader.peek()!r}")
    return node


class _Reader:
    """A recursive-descent parser; one method per level of precedence."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def peek(self, ahead: int = 0) -> str | None:
        place = self.at + ahead
        return self.tokens[place].text if place < len(self.tokens) else None

    def kind(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place].kind if place < len(self.tokens) else "end"

    def is_sign(self, signs: str) -> bool:
        return self.kind() == "sign" and str(self.peek()) in signs

    def take(self) -> Token:
        if self.at >= len(self.tokens):
            raise UnreadableError("the expression stops early")
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, sign: str) -> None:
        if not self.is_sign(sign):
            raise UnreadableError(f"expected {sign!r}")
        self.at += 1

    def nested(self, read: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > DEPTH_AT_MOST:
            raise UnreadableError(f"nested deeper than {DEPTH_AT_MOST}")
        node = read()
        self.depth -= 1
        return node

    def stacked(self) -> Node:
        r"""A sum, or two of them as TeX stacks them: `a \over b`, `n \choose k`."""
        node = self.sum()
        if self.peek() in ("over", "choose"):
            kind = "div" if self.take().text == "over" else "binomial"
            node = Node(kind, (node, self.nested(self.sum)))
        return node

    def sum(self) -> Node:
        terms = [self.product()]
        while self.is_sign("+-"):
            negative = self.take().text == "-"
            term = self.product()
            terms.append(Node("neg", (term,)) if negative else term)
        node = terms[0] if len(terms) == 1 else Node("add", tuple(terms))
        if self.kind() != "command" or self.peek() != "mod":
            return node
        self.take()
        return Node("mod", (node, self.nested(self.product)))

    def product(self) -> Node:
        factors = [self.signed()]
        while True:
            if self.is_sign("*"):
                self.take()
                factors.append(self.signed())
            elif self.is_sign("/"):
                self.take()
                above = factors.pop() if len(factors) == 1 else number(1)
                factors.append(Node("div", (above, self.signed())))
            elif self.starts_factor():
                factors.append(self.power())
            else:
                return factors[0] if len(factors) == 1 else Node("mul", tuple(factors))

    def starts_factor(self) -> bool:
        """Whether the next token multiplies what stands before it."""
        if self.kind() == "number":
            before = self.tokens[self.at - 1]
            return before.kind == "sign" and before.text in ")}"
        if self.kind() == "command":
            return self.peek() not in _OPERATORS
        return self.kind() in ("letter", "function") or self.is_sign("({[")

    def signed(self) -> Node:
        negative = False
        while self.is_sign("+-"):
            negative ^= self.take().text == "-"
        node = self.power()
        return Node("neg", (node,)) if negative else node

    def power(self) -> Node:
        base = self.postfix()
        if self.is_sign("^"):
            self.take()
            return Node("pow", (base, self.exponent()))
        return base

    def exponent(self) -> Node:
        if self.is_sign("+-"):
            return self.nested(self.signed)
        node = self.group() if self.is_sign("{") else self.nested(self.postfix)
        if self.is_sign("^"):
            self.take()
            return Node("pow", (node, self.nested(self.exponent)))
        return node

    def postfix(self) -> Node:
        node = self.atom()
        while self.is_sign("!%°"):
            mark = self.take().text
            if mark == "!":
                node = Node("factorial", (node,))
            elif mark == "°":
                node = Node("mul", (node, Node("div", (Node("pi"), number(180)))))
            elif mark == "%":
                node = Node("div", (node, number(100)))
        return node

    def group(self) -> Node:
        closing = _CLOSING[self.take().text]
        node = self.nested(self.stacked)
        self.expect(closing)
        return node

    def atom(self) -> Node:
        if self.is_sign("({[|"):
            return Node("abs", (self.group(),)) if self.peek() == "|" else self.group()
        token = self.take()
        if token.kind == "number":
            return self.number(token)
        if token.kind == "function":
            return self.function(token.text)
        if token.kind == "letter":
            return self.letter(token.text)
        if token.kind == "command":
            return self.command(token.text)
        raise UnreadableError(f"unexpected {token.text!r}")

    def number(self, token: Token) -> Node:
        r"""A number, or a mixed number such as `3 1/2` and `3\frac{1}{2}`."""
        whole = Node("number", value=number_value(token.text))
        if "." in token.text or "e" in token.text.lower():
            return whole
        if self.kind() == "command" and self.peek() == "frac":
            mark = self.at
            fraction = self.command(self.take().text)
            if all(part.kind == "number" for part in fraction.parts):
                return Node("add", (whole, fraction))
            self.at = mark
        kinds = [self.kind(0), self.peek(1), self.kind(2)]
        if kinds == ["number", "/", "number"] and self.tokens[self.at].spaced:
            above, below = self.take(), (self.take(), self.take())[1]
            values = (number(number_value(above.text)), number(number_value(below.text)))
            return Node("add", (whole, Node("div", values)))
        return whole

    def letter(self, letter: str) -> Node:
        if letter in _NAMED_FUNCTIONS and self.is_sign("("):
            start = self.at
            self.group()
            inner = "".join(token.text for token in self.tokens[start : self.at])
            return Node("symbol", name=letter + inner)
        name = letter + self.subscript()
        if name in ("e", "i"):
            return Node(name)
        return Node("symbol", name=name)

    def subscript(self) -> str:
        name = ""
        while self.is_sign("_'"):
            mark = self.take().text
            name += mark if mark == "'" else "_" + self.raw_argument()
        return name

    def raw_argument(self) -> str:
        """The text of one argument, as part of a name."""
        if not self.is_sign("{"):
            return self.take().text
        start = self.at
        depth = 0
        while True:
            token = self.take()
            depth += (token.text == "{") - (token.text == "}")
            if depth == 0:
                return "".join(part.text for part in self.tokens[start + 1 : self.at - 1])

    def command(self, name: str) -> Node:
        if name in ("pi", "infty"):
            return Node(name)
        if name in _SYMBOL_COMMANDS:
            return Node("symbol", name=name + self.subscript())
        if name in _ACCENTS:
            return Node("symbol", name=f"{name}({self.raw_argument()})" + self.subscript())
        if name in ("frac", "binom"):
            above, below = self.argument(), self.argument()
            return Node("div" if name == "frac" else "binomial", (above, below))
        if name in ("lfloor", "lceil"):
            node = self.nested(self.sum)
            if self.take().text != f"r{name[1:]}":
                raise UnreadableError(f"{name} without its end")
            return Node("floor" if name == "lfloor" else "ceil", (node,))
        raise UnreadableError(f"command {name!r}")

    def argument(self) -> Node:
        r"""One LaTeX argument: a group, or a single digit or symbol as in `\frac12`."""
        if self.is_sign("{"):
            return self.group()
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        if token is not None and token.kind == "number" and len(token.text) > 1:
            if not token.text.isdigit():
                raise UnreadableError("a decimal where one digit belongs")
            self.tokens[self.at] = token._replace(text=token.text[1:], spaced=False)
            return number(int(token.text[0]))
        return self.nested(self.atom)

    def function(self, name: str) -> Node:
        if name == "sqrt":
            return self.root()
        base: Node | None = None
        exponent: Node | None = None
        while self.is_sign("_^"):
            if self.take().text == "_":
                base = self.argument()
            else:
                exponent = self.exponent()
        argument = self.operands(name)
        if exponent is not None and exponent == Node("neg", (number(1),)):
            name, exponent = f"arc{name}", None
        node = Node(name, argument)
        if base is not None:
            if name != "log" or len(argument) != 1:
                raise UnreadableError(f"{name} with a subscript")
            node = Node("div", (node, Node("log", (base,))))
        return node if exponent is None else Node("pow", (node, exponent))

    def root(self) -> Node:
        degree = number(2)
        if self.is_sign("["):
            degree = self.group()
        inner = self.group() if self.is_sign("({") else self.argument()
        return Node("pow", (inner, Node("div", (number(1), degree))))

    def operands(self, name: str) -> tuple[Node, ...]:
        """The argument of a function: a group, or the product that follows it."""
        if self.is_sign("({["):
            closing = _CLOSING[self.take().text]
            nodes = [self.nested(self.sum)]
            while self.is_sign(","):
                self.take()
                nodes.append(self.nested(self.sum))
            self.expect(closing)
            if len(nodes) > 1 and name not in ("max", "min", "gcd", "lcm"):
                raise UnreadableError(f"{name} of several values")
            return tuple(nodes)
        if self.kind() == "function":
            return (self.nested(self.power),)
        node = self.nested(self.power)
        while self.kind() in ("letter", "command") and self.starts_factor():
            node = Node("mul", (node, self.nested(self.power)))
        return (node,)
