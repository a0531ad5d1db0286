"""Conditions on the images of an index: comparisons of its columns, and nothing that could be made expensive."""

from __future__ import annotations

import re
from collections.abc import Callable

TEXT_COLUMNS = ("path", "sha256", "label")
NUMBER_COLUMNS = ("size", "mtime_ns", "width", "height")
_LONGEST = 10_000  # characters
_DEEPEST = 50  # parentheses and NOTs within one another
_SHOWN = 80
_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|-?\d+(?:\.\d+)?|[A-Za-z_]\w*|<=|>=|<>|!=|==|[=<>(),])")
_NUMBER = re.compile(r"-?\d{1,18}")
_COMPARISONS = ("=", "==", "!=", "<>", "<", "<=", ">", ">=")


def parse_where(where: str) -> str:
    """Check a condition and give it as SQL.

    It is made of comparisons (=, !=, <>, <, <=, >, >=, [NOT] IN, [NOT] LIKE, [NOT] BETWEEN … AND, IS [NOT] NULL) of
    one column with text in single quotes or whole numbers, with AND, OR, NOT and parentheses.

    Raises:
        ValueError: it is anything else; one line.

    >>> parse_where("label in ('cat','dog') and not (size<640 or label is null)")
    "(label IN ('cat', 'dog') AND (NOT (size < 640 OR label IS NULL)))"
    """
    try:
        return _Parser(where).parse()
    except ValueError as error:
        shown = where if len(where) <= _SHOWN else f"{where[:_SHOWN]}…"
        raise ValueError(
            f"where is {shown!r}, which is not a condition over {', '.join(TEXT_COLUMNS + NUMBER_COLUMNS)} ({error}); "
            "write comparisons, such as \"label = 'cat' AND width >= 640\""
        ) from None


class _Parser:
    """Reads a condition from left to right."""

    def __init__(self, where: str) -> None:
        if len(where) > _LONGEST:
            raise ValueError(f"it is longer than {_LONGEST:,} characters")
        self.tokens: list[str] = []
        self.depth = at = 0
        where = where.rstrip()
        while at < len(where):
            match = _TOKEN.match(where, at)
            if match is None:
                raise ValueError(f"{where[at:].split()[0][:20]!r} is not part of one")
            self.tokens.append(match[1])
            at = match.end()
        self.tokens.reverse()

    def parse(self) -> str:
        """The whole condition."""
        found = self.either()
        if self.tokens:
            raise ValueError(f"{self.tokens[-1][:20]!r} follows where it should end")
        return found

    def accept(self, *words: str) -> str | None:
        """Take the next token if it is one of these."""
        if self.tokens and self.tokens[-1].upper() in words:
            return self.tokens.pop().upper()
        return None

    def expect(self, *words: str) -> str:
        """Take the next token, which must be one of these."""
        found = self.accept(*words)
        if found is None:
            there = repr(self.tokens[-1][:20]) if self.tokens else "its end"
            raise ValueError(f"{there} stands where {' or '.join(words)} should")
        return found

    def either(self) -> str:
        """Conditions with OR between them, or AND, which binds closer."""
        return self.joined("OR", lambda: self.joined("AND", self.one))

    def joined(self, word: str, part: Callable[[], str]) -> str:
        """Parts with a word between them."""
        parts = [part()]
        while self.accept(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else f"({f' {word} '.join(parts)})"

    def one(self) -> str:
        """A comparison, or a condition in parentheses or behind NOT."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if self.accept("NOT"):
            found = f"(NOT {self.one()})"
        elif self.accept("("):
            found = self.either()
            self.expect(")")
        else:
            found = self.comparison()
        self.depth -= 1
        return found

    def comparison(self) -> str:
        """One column against values."""
        name = self.tokens.pop() if self.tokens else "its end"
        column = name.lower()
        if column not in TEXT_COLUMNS + NUMBER_COLUMNS:
            raise ValueError(f"{name[:20]!r} is not a column")
        if self.accept("IS"):
            return f"{column} IS {'NOT ' if self.accept('NOT') else ''}{self.expect('NULL')}"
        negated = "NOT " if self.accept("NOT") else ""
        compared = f"CAST({column} AS BIGINT)" if column in ("width", "height") else column  # 32 bits wide in the table
        text_only = ("LIKE",) if column in TEXT_COLUMNS else ()
        sign = self.expect("IN", "BETWEEN", *text_only, *(() if negated else _COMPARISONS))
        if sign == "IN":
            self.expect("(")
            values = [self.value(column)]
            while self.expect(",", ")") == ",":
                values.append(self.value(column))
            return f"{compared} {negated}IN ({', '.join(values)})"
        if sign == "BETWEEN":
            low = self.value(column)
            self.expect("AND")
            return f"{compared} {negated}BETWEEN {low} AND {self.value(column)}"
        return f"{compared} {negated}{'=' if sign == '==' else sign} {self.value(column)}"

    def value(self, column: str) -> str:
        """Text for a column of text, a number for one of numbers."""
        found = self.tokens.pop() if self.tokens else "its end"
        if column in TEXT_COLUMNS and not found.startswith("'"):
            raise ValueError(f"{column} is text, but {found[:20]!r} is not in single quotes")
        if column in NUMBER_COLUMNS and not _NUMBER.fullmatch(found):
            raise ValueError(f"{column} is a whole number, but {found[:20]!r} is none")
        return found
