"""Brace patterns in shard names: `x-{000..004}.tar`, `{train,val}.tar`."""

from __future__ import annotations

import re
from itertools import product

_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_braces(pattern: str) -> list[str]:
    """Every name that a pattern with braces means, in order; a name without braces is itself.

    Numbers keep the width of the first bound, as in a shell.

    Raises:
        ValueError: a brace is not closed, or a range runs downwards.

    >>> expand_braces("x-{08..10}.tar")
    ['x-08.tar', 'x-09.tar', 'x-10.tar']
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    if any(brace in part for part in parts for brace in "{}"):
        raise ValueError(
            f"{pattern!r} has an unpaired or nested brace; write ranges as {{000..004}} and choices as {{a,b}}"
        )
    choices = [[part] if index % 2 == 0 else _alternatives(part, pattern) for index, part in enumerate(parts)]
    return ["".join(combination) for combination in product(*choices)]


def _alternatives(inside: str, pattern: str) -> list[str]:
    bounds = _RANGE.fullmatch(inside)
    if bounds is None:
        return inside.split(",")
    first, last = bounds.groups()
    if int(last) < int(first):
        raise ValueError(f"the range {{{inside}}} in {pattern!r} runs downwards; put the smaller number first")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
