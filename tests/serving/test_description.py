"""The OpenAPI description says what the service does: schemathesis finds nothing that differs."""

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.hypothesis.builder import HypothesisTestMode

from tests.serving.conftest import Running

EXAMPLES = 12


def test_every_route_is_described(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("classify", "embed", "embeddings", "search", "explain", "models"):
        assert f"/v1/{path}" in paths
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation["description"], (path, method)
            assert "200" in operation["responses"]
