"""timm's own calls on our class: what its scripts and its users call, unchanged."""

import copy
import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import timm.optim
import timm.task
import torch
from timm import utils
from timm.models import _hub
from timm.utils.onnx import onnx_export, onnx_forward
from torch import nn

from convit.model import ConViT
from tests.shaken import relative_error, shake

SMALL: dict[str, Any] = {"depth": 3, "local_up_to_layer": 2, "img_size": 64}
IMAGES = torch.randn(2, 3, 64, 64)


def _pair(integration: Any, **options: Any) -> tuple[nn.Module, nn.Module]:
    """timm's model and ours, made by one call, with the same weights."""
    integration.disable()
    theirs = timm.create_model("convit_tiny", **{**SMALL, **options}).eval()
    assert not isinstance(theirs, ConViT)
    integration.enable()
    ours = timm.create_model("convit_tiny", **{**SMALL, **options}).eval()
    shake(theirs)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("make", [timm.create_model, lambda name: getattr(timm.models, name)()])
@pytest.mark.parametrize("name", ["convit_tiny", "convit_small", "convit_base"])
def test_timms_names_make_our_class(name: str, make: Callable[[str], Any]) -> None:
    with torch.device("meta"):
        model = make(name)
    assert isinstance(model, ConViT)
    assert isinstance(model, timm.models.convit.ConVit)
    assert model.pretrained_cfg["architecture"] == name
    assert model.default_cfg is model.pretrained_cfg


def test_disable_gives_timm_its_class_back(ours: Any) -> None:
    names, cards = timm.list_models("convit*"), timm.list_pretrained("convit*")
    made = timm.create_model("convit_tiny", **SMALL)
    for _ in range(2):
        ours.disable()
    for model in (timm.create_model("convit_tiny", **SMALL), timm.models.ConVit(**SMALL | {"embed_dim": 8})):
        assert type(model).__module__ == "timm.models.convit"
    assert (timm.list_models("convit*"), timm.list_pretrained("convit*")) == (names, cards)
    assert made(IMAGES).shape == (2, 1000)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_classes": 7}, {"num_classes": 0}, {"global_pool": "avg", "drop_path_rate": 0.1}, {"in_chans": 1}],
)
def test_logits_are_timms(ours: Any, options: dict[str, Any]) -> None:
    theirs, mine = _pair(ours, **options)
    images = IMAGES[:, : options.get("in_chans", 3)]
    with torch.inference_mode():
        assert relative_error(mine(images), theirs(images)) < 1e-5
        assert relative_error(mine.forward_features(images), theirs.forward_features(images)) < 1e-5


@pytest.mark.parametrize("how", [{}, {"out_indices": (0,)}, {"out_indices": (-1,), "feature_cls": "hook"}])
def test_features_are_timms(ours: Any, how: dict[str, Any]) -> None:
    theirs, mine = _pair(ours, features_only=True, **how)
    assert mine.feature_info.channels() == theirs.feature_info.channels()
    assert mine.feature_info.module_name() == theirs.feature_info.module_name()
    with torch.inference_mode():
        for our_map, their_map in zip(mine(IMAGES), theirs(IMAGES), strict=True):
            assert relative_error(our_map, their_map) < 1e-5
    assert len(dict(mine.named_parameters())) == len(dict(theirs.named_parameters()))


def test_attention_is_extracted_by_hooks_as_timms_is(ours: Any) -> None:
    theirs, mine = (utils.AttentionExtract(model, method="hook") for model in _pair(ours))
    with torch.inference_mode():
        ours_found, found = mine(IMAGES), theirs(IMAGES)
    assert list(ours_found) == list(found) == [f"blocks.{index}.attn.attn_drop" for index in range(3)]
    for name, matrix in found.items():
        assert relative_error(ours_found[name], matrix) < 1e-5


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("resized", [False, True])
@pytest.mark.parametrize("source", ["local-dir", "hf-hub"])
def test_a_model_saved_by_timm_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, resized: bool
) -> None:
    model = timm.create_model("convit_tiny", in_chans=1, num_classes=5, **SMALL).eval()
    shake(model)
    size = 64
    if resized:
        size = 32
        model.set_input_size(size)
        model.reset_classifier(3)
    timm.models._hub.save_for_hf(
        model, tmp_path, model_config={"num_classes": model.num_classes}, safe_serialization=True
    )
    monkeypatch.setattr(_hub, "hf_hub_download", lambda repo_id, filename, **_: str(tmp_path / filename))
    name = f"local-dir:{tmp_path}" if source == "local-dir" else "hf-hub:someone/convit"
    again = timm.create_model(name, pretrained=True).eval()
    assert isinstance(again, ConViT)
    assert again.config.img_size == (size, size)
    images = IMAGES[:, :1, :size, :size]
    torch.testing.assert_close(again(images), model(images))
    assert timm.create_model(name, pretrained=True, num_classes=9)(images).shape == (2, 9)


@pytest.mark.usefixtures("ours")
def test_what_train_calls(tmp_path: Path) -> None:
    model = timm.create_model("convit_tiny", num_classes=5, drop_rate=0.1, drop_path_rate=0.1, **SMALL)
    model.set_grad_checkpointing(enable=True)
    model = model.to(memory_format=torch.channels_last)
    data = timm.data.resolve_data_config({"img_size": 64}, model=model, verbose=True)
    assert data["input_size"] == (3, 64, 64)
    optimizer = timm.optim.create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.75)
    decays = {name for group in optimizer.param_groups for name in group.get("param_names", [])}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters())), decays
    average = utils.ModelEmaV3(model, decay=0.5)
    saver = utils.CheckpointSaver(model, optimizer, args=None, model_ema=average, checkpoint_dir=str(tmp_path))
    before = copy.deepcopy(model.state_dict())
    task = timm.task.ClassificationTask(model, criterion_kwargs={"smoothing": 0.1}, device=torch.device("cpu"))
    task(IMAGES, torch.tensor([1, 3]))["loss"].backward()
    utils.dispatch_clip_grad(timm.models.model_parameters(model, exclude_head=True), value=1.0, mode="norm")
    optimizer.step()
    average.update(model)
    saver.save_checkpoint(0, metric=1.0)
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())
    again = timm.create_model("convit_tiny", num_classes=5, checkpoint_path=str(tmp_path / "last.pth.tar"), **SMALL)
    kept = average.module.state_dict()  # timm loads the average where a file has one
    assert all(torch.equal(value, kept[name]) for name, value in again.state_dict().items())
    assert timm.models.resume_checkpoint(model, str(tmp_path / "last.pth.tar"), optimizer) == 1
    utils.freeze(model, ["blocks.0", "patch_embed"])
    assert {name.split(".")[0] for name, value in model.named_parameters() if not value.requires_grad} == {
        "blocks",
        "patch_embed",
    }


@pytest.mark.usefixtures("ours")
def test_what_validate_inference_and_benchmark_call() -> None:
    model = timm.create_model("convit_tiny", scriptable=False, exportable=True, no_jit=True, device="cpu", **SMALL)
    model = utils.reparameterize_model(model).eval()
    assert timm.data.infer_imagenet_subset(model) == "imagenet-1k"
    assert timm.data.resolve_model_data_config(model)["crop_pct"] == 0.875
    assert sum(value.numel() for value in model.parameters()) == sum(
        value.numel() for value in model.state_dict().values()
    )
    assert model.get_classifier() is model.head
    half = timm.create_model("convit_tiny", dtype=torch.bfloat16, **SMALL).eval()
    assert half(IMAGES.bfloat16()).dtype == torch.bfloat16
    groups = timm.models.group_parameters(model, model.group_matcher())
    assert sum(len(names) for names in groups.values()) == len(list(model.parameters()))


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.usefixtures("ours")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("dynamo", [False, True])
def test_what_onnx_export_calls(tmp_path: Path, dynamo: bool) -> None:
    model = timm.create_model("convit_tiny", num_classes=5, exportable=True, **SMALL)
    shake(model)
    file, size = str(tmp_path / "model.onnx"), {"input_size": (3, 64, 64), "batch_size": 2}
    onnx_export(model, file, use_dynamo=dynamo, check=True, check_forward=True, **size)
    images = torch.randn(5, 3, 64, 64)
    with torch.inference_mode():
        assert relative_error(torch.from_numpy(onnx_forward(file, images)), model(images)) < 1e-4


@pytest.mark.usefixtures("ours")
def test_a_teacher_teaches() -> None:
    teacher, student = (timm.create_model("convit_tiny", num_classes=5, **SMALL) for _ in range(2))
    for make in (timm.task.LogitDistillationTask, timm.task.FeatureDistillationTask):
        task = make(student, teacher, criterion_kwargs={"smoothing": 0.1}, device=torch.device("cpu"), verbose=False)
        task(IMAGES, torch.tensor([1, 3]))["loss"].backward()
    assert all(value.grad is not None for value in student.parameters())


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
def test_torchscript_is_refused_and_tracing_works(ours: Any) -> None:
    model = timm.create_model("convit_tiny", **SMALL).eval()
    with pytest.raises(TypeError, match=r"torch\.export\.export.*torch\.jit\.trace"):
        torch.jit.script(model)
    with torch.no_grad():
        traced = torch.jit.trace(model, IMAGES)
        torch.testing.assert_close(traced(IMAGES), model(IMAGES))


@pytest.mark.usefixtures("ours")
def test_what_our_class_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError, match="'no_such_option' is not a ConViT option"):
        timm.create_model("convit_tiny", no_such_option=1)
    with pytest.raises(TypeError, match="norm_layer is BatchNorm1d, but a ConViT has LayerNorm"):
        timm.create_model("convit_tiny", norm_layer=nn.BatchNorm1d)
    with pytest.raises(AssertionError, match="global_pool is 'max'"):
        timm.create_model("convit_tiny", **SMALL).reset_classifier(3, "max")


@pytest.mark.parametrize(
    ("peer", "line"),
    [
        ("sys.modules['timm'] = None", "timm is not installed"),
        ("import types; timm = types.ModuleType('timm'); timm.__version__ = '0.9.2'; sys.modules['timm'] = timm",
         "timm is 0.9.2, which is too old"),
    ],
)  # fmt: skip
def test_a_missing_or_old_timm_is_said_in_one_line(peer: str, line: str) -> None:
    program = f"import sys; {peer}\nimport convit.integrations.timm"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == f"ImportError: {line}; pip install 'timm>=1.0.31'"


def test_the_import_costs_little_more_than_timms() -> None:
    program = (
        "import time, timm; start = time.process_time(); import convit.integrations.timm;"
        "print(time.process_time() - start)"
    )
    command = [sys.executable, "-c", program]
    # the first time with a cold cache of compiled files
    seconds = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    assert min(seconds) < 0.05


def test_the_entry_point_and_a_script_that_knows_nothing_of_us(tmp_path: Path) -> None:
    points = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    ((group, named),) = points.items()
    script = tmp_path / "script.py"
    script.write_text("import sys, timm; print(type(timm.create_model(sys.argv[1], img_size=32, depth=11)).__mro__[1])")
    command = [sys.executable, "-m", named["convit"], str(script), "convit_tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "<class 'convit.model.convit.ConViT'>"
    point = importlib.metadata.EntryPoint("convit", named["convit"], group)
    assert point.load().__name__ == "convit.integrations.timm"
    point.load().disable()
