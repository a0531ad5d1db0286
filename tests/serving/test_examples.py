"""The examples for those who run the service: clients work, files can be read and name what there is."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from convit.cli import main
from tests.serving.conftest import PHOTOS, Running

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "serve"


def test_the_clients_work(running: Running, tmp_path: Path) -> None:
    image = PHOTOS / "cat.jpg"
    command = [sys.executable, EXAMPLES / "client.py", image, running.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cat: ")
    subprocess.run(["sh", EXAMPLES / "client.sh", image, running.url], cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "vector.npy").read_bytes().startswith(b"\x93NUMPY")
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


def test_the_board_and_the_scrape_ask_for_what_is_counted(running: Running) -> None:
    board = json.loads((EXAMPLES / "grafana.json").read_text())
    asked = {name for each in re.findall(r"convit_\w+", json.dumps(board)) for name in [each]}
    with running.client() as client:
        client.post("/v1/classify", files=[("images", b"x")] * 65)
        known = set(re.findall(r"^# TYPE (convit_\w+) ", client.get("/metrics").text, re.MULTILINE))
    assert {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in asked} <= known
    (job,) = yaml.safe_load((EXAMPLES / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["job_name"] == "convit"


def test_the_manifest_probes_paths_and_passes_options_that_there_are(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment, _ = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "--api-key-file" in container["args"]
    assert "annotations" not in deployment["spec"]["template"]["metadata"]  # a scrape by these brings no key
    with running.client() as client:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert client.get(container[probe]["httpGet"]["path"]).status_code == 200
    main(["serve", "--help"])
    options = capsys.readouterr().out
    files = [EXAMPLES / "convit.service", *EXAMPLES.glob("Containerfile*")]
    used = {word for file in files for word in re.findall(r"--(?:host|model|port|api-key-file)\b", file.read_text())}
    assert all(word in options for word in {*used, *(each for each in container["args"] if each.startswith("--"))})


def test_the_container_without_torch_names_the_packages_of_the_extra() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["serve"]
    text = (EXAMPLES / "Containerfile.exported").read_text()
    names = {re.split(r"[>\[]", each)[0] for each in extra} - {"convit", "pydantic"}
    assert all(name in text for name in names)
    assert "torch" not in text.partition("RUN")[2]
