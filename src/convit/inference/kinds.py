"""The kinds of embedding, by name."""

import re

KINDS = ("pooled", "pre_logits", "tokens", "patches", "layer:N")


def check_kind(kind: str) -> None:
    """Refuse a kind of embedding that there is not; needs no model.

    Args:
        kind: "pooled", "pre_logits", "tokens", "patches" or "layer:0", "layer:1" ….

    Raises:
        ValueError: another name.
    """
    if kind not in KINDS[:-1] and layer_of(kind) is None:
        raise ValueError(f"kind is {kind!r}, but must be one of {', '.join(KINDS)} (N counts blocks from 0)")


def layer_of(kind: str) -> int | None:
    """Read the block's number out of "layer:N"; `None` for other kinds.

    >>> layer_of("layer:7"), layer_of("tokens")
    (7, None)
    """
    match = re.fullmatch(r"layer:([0-9]{1,4})", kind)
    return int(match[1]) if match else None
