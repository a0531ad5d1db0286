"""`convit push`: what the real client brings to a stand-in of the hub on localhost, and what is refused in one line."""

import base64
import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import convit
from convit.cli import main
from convit.evaluation.report import facts
from convit.weights.upload import prepare_upload
from tests.evaluation.made import made_evaluation, made_scores
from tests.shaken import shake

TOKEN = "hf_a_secret_of_this_test"
REPO = "someone/flowers"
NANO = "convit_nano_patch4_32"


def _taking_uploads(handler: Any, hub: Any) -> Any:
    """The stand-in's handler with the calls that an upload makes; whoever has not the token is refused."""

    class Taking(handler):
        def answer(self, content: Any, status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            hub.requests.append(f"POST {self.path}")
            if hub.refuses is not None:
                return self.answer({"error": "no"}, hub.refuses)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer({"error": "no access"}, 403)
            if self.path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if self.path == "/api/repos/create":
                return self.create(json.loads(body))
            if "/branch/" in self.path:
                hub.branches.append(self.path.rpartition("/")[2])
                return self.answer({})
            if "/preupload/" in self.path:
                files = json.loads(body)["files"]
                modes = [
                    {
                        "path": each["path"],
                        "shouldIgnore": False,
                        "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                    }
                    for each in files
                ]
                return self.answer({"files": modes})
            if self.path.endswith("/objects/batch"):
                wanted = json.loads(body)["objects"]
                objects = [
                    {**each, "actions": {"upload": {"href": f"{hub.address}/lfs/{each['oid']}"}}} for each in wanted
                ]
                return self.answer({"objects": objects})
            return self.commit([json.loads(line) for line in body.splitlines()])

        def create(self, asked: dict[str, Any]) -> None:
            hub.created.append(asked)
            name = f"{asked['organization']}/{asked['name']}"
            hub.repos.setdefault(name, {})
            self.answer({"url": f"{hub.address}/{name}"})

        def commit(self, lines: list[dict[str, Any]]) -> None:
            _, _, _, owner, name, _, revision = self.path.split("/")
            files = hub.repos[f"{owner}/{name}"]
            hub.commits.append((revision, lines[0]["value"]["summary"]))
            for line in lines[1:]:
                value = line["value"]
                if line["key"] == "deletedFile":
                    del files[value["path"]]
                elif line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                else:
                    files[value["path"]] = hub.large[value["oid"]]
            self.answer({"commitUrl": f"{hub.address}/{owner}/{name}/commit/1", "commitOid": "1" * 40})

        def do_PUT(self) -> None:  # noqa: N802
            content = self.rfile.read(int(self.headers["Content-Length"]))
            hub.large[hashlib.sha256(content).hexdigest()] = content
            self.answer({})

    return Taking


@pytest.fixture
def taking(hub: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The hub's stand-in, which takes uploads of whoever has the token."""
    hub.refuses = None
    hub.created, hub.branches, hub.commits, hub.large = [], [], [], {}
    hub.server.RequestHandlerClass = _taking_uploads(hub.server.RequestHandlerClass, hub)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    return hub


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What a training leaves, as far as the hub gets to see it."""
    folder = tmp_path / "run"
    model = convit.create_model(NANO, num_classes=3)
    shake(model)
    recipe = {"name": "flowers", "seed": 3, "ema": {"decay": 0.99}, "model": {"weights": "convit_tiny.fb_in1k"}}
    metadata = {
        "classes": ["aster", "daisy", "rose"],
        "trained_on": "Flowers of one garden",
        "license": "MIT",
        "origin": "fine-tuned with `convit train`",
        "recipe": recipe,
        "outcome": {"epoch": 2, "val_top1": 87.5, "val_loss": 0.5},
    }
    convit.save_weights(folder / "weights.safetensors", model, metadata)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    speeds = (None, 9.0)  # an epoch may be too short to tell
    lines = [
        {"epoch": epoch, "seconds": 60.0, "images_per_second": speed, "val_top1": 80.0 + epoch}
        for epoch, speed in enumerate(speeds, 1)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def command(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["push", *map(str, arguments)])
    assert TOKEN not in out.getvalue() + err.getvalue()
    return code, out.getvalue(), err.getvalue()


def evaluation(run: Path, **changes: Any) -> dict[str, Any]:
    """What `convit evaluate` writes of the run's weights."""
    return {
        "weights_sha256": hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest(),
        "data": {"kind": "folder", "name": "/home/someone/held-out", "sha256": "ab"},
        "data_sha256": "ab",
        "count": 200,
        "correct_top1": 183,
        "top1": 91.5,
        "top5": 100.0,
        "loss": 0.25,
        "precision": "fp32",
        "date": "2026-11-29T00:00:00+00:00",
        "versions": {"convit": "0.1.0"},
        **changes,
    }


def test_a_dry_run_shows_all_and_asks_nobody(hub: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    before = sorted(run.iterdir())
    code, out, err = command(run, REPO)
    assert (code, err, hub.requests) == (0, "", [])
    told = json.loads(out)
    assert (told["repository"], told["revision"], told["uploaded"]) == (REPO, "main", None)
    assert told["files"].keys() == {"model.safetensors", "config.json", "README.md"}
    assert told["files"]["model.safetensors"] == (run / "weights.safetensors").stat().st_size
    assert "Flowers of one garden. MIT." in told["card"]
    assert "2 epochs in 0.03 hours at about 9 images/s" in " ".join(told["card"].split())
    assert sorted(run.iterdir()) == before


def test_an_upload_arrives_and_is_read_by_its_name(taking: Any, run: Path, tmp_path: Path) -> None:
    code, out, err = command(run, REPO, "--yes", "--private", "--message", "First flowers")
    assert (code, err) == (0, ""), err
    assert json.loads(out)["uploaded"] == f"{taking.address}/{REPO}/commit/1"
    files = taking.repos[REPO]
    assert files["model.safetensors"] == (run / "weights.safetensors").read_bytes()
    assert taking.created == [{"name": "flowers", "organization": "someone", "visibility": "private"}]
    assert taking.commits == [("main", "First flowers")]
    model = convit.create_model(f"hf-hub:{REPO}", pretrained=True, cache_dir=tmp_path / "cache").eval()
    assert model.pretrained_cfg["label_names"] == ("aster", "daisy", "rose")
    assert model.pretrained_cfg["architecture"] == NANO
    assert not any(TOKEN.encode() in each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    code, _, _ = command(run, f"{REPO}@later", "--yes")
    assert (code, taking.branches, taking.commits[1][0]) == (0, ["later"], "later")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (
            {"kind": "cifar", "name": "cifar10:test", "files": [{"name": "test_batch"}, {"name": "meta"}]},
            "cifar10:test",
        ),
        ({"kind": "hub", "name": "hub:owner/name:test"}, "hub:owner/name:test"),
        ({"kind": "hub", "name": "hub:~/name:test"}, "name:test"),
        ({"kind": "shards", "files": [{"name": f"https://host/x/{each}.tar"} for each in "abc"]}, "a.tar to c.tar"),
        ({"kind": "parquet", "files": [{"name": "/home/someone/x.parquet"}]}, "x.parquet"),
    ],
)
def test_card_and_report_call_data_the_same(run: Path, data: dict[str, Any], name: str) -> None:
    (run / "held-out.json").write_text(json.dumps(evaluation(run, data=data)))
    assert f"| {name} | 200 |" in prepare_upload(run, REPO).card
    assert dict(facts(made_evaluation(made_scores(), data=data, data_sha256="")))["data"] == name


def test_the_card_tells_what_was_measured_of_these_weights(run: Path) -> None:
    (run / "held-out.json").write_text(json.dumps(evaluation(run)))
    (run / "report.json").write_text(json.dumps({"test": evaluation(run, data_sha256="cd", top1=90.0)}))
    (run / "old.json").write_text(json.dumps(evaluation(run, weights_sha256="other", top1=12.0)))
    (run / "broken.json").write_text("{")
    prepared = prepare_upload(run, REPO)
    assert prepared.stale == ("old.json",)
    head, _, text = prepared.card.removeprefix("---\n").partition("---\n")
    assert "| held-out | 200 | 91.50 % | 100.00 % | 0.2500 |" in text
    assert "| held-out (test images) | 200 | 90.00 % |" in text
    assert "12.00" not in text
    assert "/home/someone" not in prepared.card
    assert "2 epochs in 0.03 hours" in text
    assert "Fine-tuned from `convit_tiny.fb_in1k` (Apache-2.0)" in text
    known = yaml.safe_load(head)
    assert (known["library_name"], known["license"]) == ("timm", "mit")
    assert known["base_model"] == "timm/convit_tiny.fb_in1k"
    assert known["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.915}]


def test_without_a_measurement_the_card_has_the_accuracy_of_the_training(run: Path) -> None:
    card = prepare_upload(run, REPO).card
    assert "Top-1 87.50 % on the validation images of the training, after epoch 2. Not measured otherwise." in card
    assert "model-index" not in card


def test_other_terms_are_told_in_words(tmp_path: Path) -> None:
    model = convit.create_model(NANO, num_classes=0)
    convit.save_weights(tmp_path / "a.safetensors", model, {"license": "ask the gardener"})
    card = prepare_upload(tmp_path / "a.safetensors", REPO).card
    assert "license: other" in card
    assert "ask the gardener." in card
    assert "pipeline_tag: image-feature-extraction" in card
    assert "Not measured." in card


def test_a_license_of_the_weights_stands_beside_the_terms_of_the_images(run: Path) -> None:
    prepared = prepare_upload(run, REPO, terms="cc-by-4.0")
    assert "\nlicense: cc-by-4.0\n" in prepared.card
    assert "Flowers of one garden. MIT. The weights are licensed as `cc-by-4.0`." in prepared.card
    config = prepared.files["config.json"]
    assert isinstance(config, bytes)
    assert json.loads(config)["pretrained_cfg"]["license"] == "cc-by-4.0"


def test_what_timm_cannot_compute_is_pushed_for_convit_alone(taking: Any, tmp_path: Path) -> None:
    oblong = convit.create_model(NANO, img_size=(32, 64), num_classes=2).eval()
    convit.save_weights(tmp_path / "oblong.safetensors", oblong)
    taking.repos[REPO] = {"config.json": json.dumps({"architecture": "convit_tiny"}).encode()}
    code, out, err = command(tmp_path / "oblong.safetensors", REPO, "--yes")
    assert (code, json.loads(out)["files"].keys()) == (0, {"model.safetensors", "README.md"})
    assert err.count("\n") == 1
    assert "timm and transformers cannot build this model: timm's ConViT takes a grid" in err
    assert taking.repos[REPO].keys() == {"model.safetensors", "README.md"}
    card = taking.repos[REPO]["README.md"].decode()
    assert "timm and transformers cannot build it: timm's ConViT takes a grid of patches for square" in card
    assert "library_name: convit" in card
    found = convit.create_model(f"hf-hub:{REPO}", pretrained=True, cache_dir=tmp_path / "cache").eval()
    image = torch.zeros(1, 3, 32, 64)
    torch.testing.assert_close(found(image), oblong(image))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"architecture": "resnet50"}, "holds another model, 'resnet50'; choose another name"),
        ({"architectures": ["BertModel"]}, "holds another model, ['BertModel']; choose another name"),
        ([1], "holds another model, 'an unknown model'"),
    ],
)
def test_a_repository_of_another_architecture_is_left_alone(taking: Any, run: Path, config: Any, words: str) -> None:
    taking.repos[REPO] = {"config.json": json.dumps(config).encode()}
    code, out, err = command(run, REPO, "--yes")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert taking.commits == []


def no_token(patch: pytest.MonkeyPatch, taking: Any, folder: Path) -> None:
    patch.delenv("HF_TOKEN")
    patch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "none"))


def other_token(patch: pytest.MonkeyPatch, taking: Any, folder: Path) -> None:
    patch.setenv("HF_TOKEN", "hf_of_somebody_else")


def no_network(patch: pytest.MonkeyPatch, taking: Any, folder: Path) -> None:
    patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def forbidden(patch: pytest.MonkeyPatch, taking: Any, folder: Path) -> None:
    patch.setenv("HF_HUB_OFFLINE", "1")


def hub_fails(patch: pytest.MonkeyPatch, taking: Any, folder: Path) -> None:
    taking.refuses = 500


def hub_is_silent(patch: pytest.MonkeyPatch, taking: Any, folder: Path) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("it did not answer")

    patch.setattr("huggingface_hub.HfApi.hf_hub_download", download)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (no_token, "there is no token for the hub; run `hf auth login`, or set HF_TOKEN"),
        (other_token, "does not let this token write to someone/flowers (403); take one with write access"),
        (no_network, "cannot reach http://127.0.0.1:9"),
        (forbidden, "HF_HUB_OFFLINE forbids any request; unset it to upload"),
        (hub_fails, "did not take someone/flowers"),
        (hub_is_silent, "did not take someone/flowers (it did not answer)"),
    ],
)
def test_what_keeps_an_upload_from_the_hub_is_one_line(
    taking: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: Callable[..., None], words: str
) -> None:
    prepare(monkeypatch, taking, tmp_path)
    code, out, err = command(run, REPO, "--yes")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert words in err
    assert "somebody_else" not in err
    assert taking.commits == []


def test_what_cannot_be_pushed_is_one_line(run: Path, tmp_path: Path) -> None:
    torch.save(convit.create_model(NANO).state_dict(), tmp_path / "bare.pth")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").write_text("")
    for arguments, words in (
        ((tmp_path / "none", REPO), "there is no weight file"),
        ((tmp_path / "begun", REPO), "has written no weights yet; let it finish"),
        ((tmp_path / "bare.pth", REPO), "is not a safetensors file"),
        ((run, REPO, "--license", "apache"), "license is 'apache', but must be one of apache-2.0, mit"),
        ((run, "flowers"), "is not a hub repository; write hf-hub:owner/name"),
    ):
        code, out, err = command(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert words in err
