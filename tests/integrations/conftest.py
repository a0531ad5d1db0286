"""timm with its own class, and with ours behind its names for one test."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def ours() -> Iterator[Any]:
    import convit.integrations.timm as integration

    integration.enable()
    yield integration
    integration.disable()
