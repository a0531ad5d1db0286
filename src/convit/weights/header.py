"""What a weight file says of itself, read without torch and without its tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

METADATA_KEY = "convit"
_LONGEST_HEADER = 100_000_000  # safetensors' own limit, bytes


def read_header(path: Path) -> dict[str, Any]:
    """Read the header of a safetensors file: each tensor's dtype, shape and place, and "__metadata__".

    Source: the safetensors format: eight bytes of little-endian length, then that many bytes of JSON.

    Raises:
        ValueError: the file is not a safetensors file, or it was cut off.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        text = file.read(length) if 2 <= length <= _LONGEST_HEADER else b""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{path} is not a safetensors file, or it was cut off; copy or fetch it again")
    return header


def read_metadata(path: Path) -> dict[str, Any]:
    """Read what this project wrote into a safetensors file of its model: configuration, classes, preprocessing, terms.

    Empty where there is no such description, as in timm's files.

    Raises:
        ValueError: the file is not a safetensors file, or its description is not a JSON object.
        OSError: the file cannot be read.
    """
    notes = read_header(path).get("__metadata__")
    text = notes.get(METADATA_KEY) if isinstance(notes, dict) else None
    if text is None:
        return {}
    try:
        metadata = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise ValueError(
            f"the description inside {path} is not a JSON object; the file is damaged, fetch or save it again"
        )
    if "licence" in metadata:  # as files written before 0.1.0 spell it
        metadata.setdefault("license", metadata.pop("licence"))
    return metadata
