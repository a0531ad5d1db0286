"""The OpenAPI description says what the service does: schemathesis finds nothing that differs."""

import json
import subprocess
import sys

import httpx
import pytest

from tests.serving.conftest import NANO, Running


def test_every_route_is_described(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("classify", "embed", "embeddings", "search", "explain", "models"):
        assert f"/v1/{path}" in paths
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation["description"], (path, method)
            assert "200" in operation["responses"]


@pytest.mark.parametrize("path", ["classify", "embed", "explain"])
def test_a_request_without_parameters_has_the_defaults_that_are_described(
    client: httpx.Client, cat: bytes, path: str
) -> None:
    operation = client.get("/openapi.json").json()["paths"][f"/v1/{path}"]["post"]
    schemas = {each["name"]: each["schema"] for each in operation["parameters"]}
    described = {name: schema["default"] for name, schema in schemas.items() if "default" in schema}
    assert described
    bare, spelled_out = (client.post(f"/v1/{path}", content=cat, params=given) for given in ({}, described))
    assert bare.json() == spelled_out.json()
    assert client.get(f"/v1/{path}").status_code == 405


def test_whatever_answers_get_answers_head_without_the_body(client: httpx.Client, running: Running) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    described = [path.replace("{name}", NANO) for path, methods in paths.items() if "get" in methods]
    for path in ("/", "/docs", "/openapi.json", *described):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert int(head.headers["content-length"]) > 0
    assert client.head("/v1/classify").status_code == 405
    logged = [json.loads(line) for line in running.log.read_text().splitlines() if '"HEAD"' in line]
    assert {line["route"] for line in logged} >= {"/healthz", "/readyz", "/metrics", "/v2/health/live"}


def _run_schemathesis(running: Running, *options: str) -> str:
    # what fits the description may still be no image, or of a model that is not there
    checks = ("--checks", "all", "--exclude-checks", "positive_data_acceptance", "--seed", "1")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{running.url}/openapi.json", *checks, *options]
    done = subprocess.run(command, cwd=running.log.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    return done.stdout


def test_schemathesis_finds_nothing(running: Running) -> None:
    told = _run_schemathesis(running, "--phases", "fuzzing", "--max-examples", "2")
    assert "16/16" in told
    with running.client() as client:
        assert client.get(f"/v1/models/{NANO}").status_code == 200


@pytest.mark.soak
def test_schemathesis_finds_nothing_in_minutes(running: Running) -> None:
    assert "16/16" in _run_schemathesis(running, "--phases", "examples,coverage,fuzzing,stateful", "--max-time", "240")
