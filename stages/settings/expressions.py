"""A small language of formulas, such as "0.05 * abs(y) + floor": arithmetic, names and a few functions, nothing else.

A formula is read by a parser of its own and evaluated node by node; no part of it is ever run as Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

_LONGEST, _DEEPEST = 20_000, 40  # characters, and brackets within brackets
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[^\W\d]\w*(?:\.\w+)*(?:\[\d+\])?)|`(?P<quoted>[^`]+)`|(?P<sign>\*\*|[-+*/^(),]))"
)
_SUMS: dict[str, Callable[[Any, Any], Any]] = {"+": lambda a, b: a + b, "-": lambda a, b: a - b}
_PRODUCTS: dict[str, Callable[[Any, Any], Any]] = {"*": lambda a, b: a * b, "/": lambda a, b: a / b}
_ELEMENTWISE = ("abs", "cos", "exp", "log", "log10", "log2", "sin", "sqrt", "tan", "tanh")
_OF_ALL = ("max", "mean", "min", "sum")  # of one array; max and min of several arguments are taken number by number
FUNCTIONS = (*_ELEMENTWISE, *_OF_ALL, "first", "last")

Values = Mapping[str, Any]
Node = Callable[[Values, Any], Any]  # the values by name, and numpy or jax.numpy


@dataclass(frozen=True)
class Expression:
    """A formula: the names in it, in their order, and what it comes to."""

    text: str
    names: tuple[str, ...]
    node: Node

    def __call__(self, values: Values, xp: Any) -> Any:
        """Evaluate it; `xp` is `numpy` or `jax.numpy`, whose functions are taken."""
        return self.node(values, xp)


@cache
def parse(text: str) -> Expression:
    """Read a formula; raise ValueError that says where it cannot be."""
    if len(text) > _LONGEST:
        raise ValueError(f"got a formula of {len(text)} characters, expected at most {_LONGEST}")
    parser = _Parser(text, _tokens(text))
    node = parser.sum()
    parser.end()
    return Expression(text, tuple(dict.fromkeys(parser.names)), node)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(
                f'got "{text}", which cannot be read at "{text[at:].strip()[:12]}"; expected a formula of numbers, '
                "names (odd ones in `backticks`), + - * / ** and functions"
            )
        kind = str(match.lastgroup)
        tokens.append((kind, match[kind]))
        at = match.end()
    return tokens


class _Parser:
    """Recursive descent, an operator's rank a method."""

    def __init__(self, text: str, tokens: Sequence[tuple[str, str]]) -> None:
        self._text, self._tokens, self._at, self._depth = text, tokens, 0, 0
        self.names: list[str] = []

    def sum(self) -> Node:
        return self._chain(_SUMS, self._product)

    def _product(self) -> Node:
        return self._chain(_PRODUCTS, self._signed)

    def _chain(self, operators: Mapping[str, Callable[[Any, Any], Any]], part: Callable[[], Node]) -> Node:
        left = part()
        while (sign := self._peek()) in operators:
            self._at += 1
            left = _both(operators[sign], left, part())
        return left

    def _signed(self) -> Node:
        sign = self._peek()
        if sign not in ("+", "-"):
            return self._power()
        self._at += 1
        with_sign = self._deeper(self._signed)
        return with_sign if sign == "+" else lambda values, xp: -with_sign(values, xp)

    def _power(self) -> Node:
        base = self._atom()
        if self._peek() not in ("**", "^"):
            return base
        self._at += 1
        return _both(lambda a, b: a**b, base, self._deeper(self._signed))

    def _atom(self) -> Node:
        kind, word = self._next()
        if kind == "number":
            return lambda values, xp: float(word)
        if kind == "quoted" or (kind == "name" and self._peek() != "("):
            self.names.append(word)
            return lambda values, xp: values[word]
        if kind == "name":
            return self._call(word)
        if word != "(":
            raise self._refuse(f'at "{word}"')
        inner = self._deeper(self.sum)
        self._expect(")")
        return inner

    def _call(self, function: str) -> Node:
        if function not in FUNCTIONS:
            raise self._refuse(f'"{function}" is no function (known: {", ".join(FUNCTIONS)})')
        self._expect("(")
        arguments = [self._deeper(self.sum)]
        while self._peek() == ",":
            self._at += 1
            arguments.append(self._deeper(self.sum))
        self._expect(")")
        if len(arguments) > 1 and function not in ("max", "min"):
            raise self._refuse(f"{function} takes one argument")
        return lambda values, xp: _applied(function, [argument(values, xp) for argument in arguments], xp)

    def _deeper(self, part: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._refuse(f"it is nested more than {_DEEPEST} deep")
        node = part()
        self._depth -= 1
        return node

    def _peek(self) -> str:
        kind, word = self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")
        return word if kind == "sign" else ""

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise self._refuse("it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, sign: str) -> None:
        if self._at == len(self._tokens) or self._next() != ("sign", sign):
            raise self._refuse(f'expected a "{sign}"')

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise self._refuse(f'at "{self._tokens[self._at][1]}"')

    def _refuse(self, what: str) -> ValueError:
        return ValueError(f'got "{self._text}", which is no formula: {what}')


def _both(operator: Callable[[Any, Any], Any], left: Node, right: Node) -> Node:
    return lambda values, xp: operator(left(values, xp), right(values, xp))


def _applied(function: str, arguments: Sequence[Any], xp: Any) -> Any:
    value = arguments[0]
    if function in ("first", "last"):
        return xp.asarray(value)[..., 0 if function == "first" else -1]
    if function not in _OF_ALL:
        return getattr(xp, function)(value)
    if len(arguments) == 1:
        return getattr(xp, function)(value, axis=-1)
    for other in arguments[1:]:
        value = (xp.maximum if function == "max" else xp.minimum)(value, other)
    return value
