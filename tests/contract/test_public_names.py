"""The names that users write: they stay, they resolve, and each says what it gives."""

import importlib
import inspect
from pathlib import Path

import pytest

import convit
from tools.count import read_sources, undocumented

PACKAGE = Path(convit.__file__).parent

# timm's names with timm's meaning, so that `import convit as timm` runs a model card's own snippet
AS_IN_TIMM = {"create_model", "list_models", "list_pretrained", "is_model", "data"}
OURS = {"Classifier", "Embedder", "Prediction", "ConViT", "ConViTConfig", "VARIANTS", "load_model", "finetune", "train"}
BY_MODULE = {"finetuning", "integrations", "training"}  # rooms whose names are imported from their modules
ROOMS = sorted(entry.name for entry in PACKAGE.iterdir() if (entry / "__init__.py").is_file())


def test_the_front_door() -> None:
    assert set(convit.__all__) >= AS_IN_TIMM | OURS
    assert {"resolve_model_data_config", "create_transform"} <= set(convit.data.__all__)


def test_public_names_resolve_and_show_in_dir() -> None:
    for name in convit.__all__:
        assert getattr(convit, name) is not None
    assert set(convit.__all__) <= set(dir(convit))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        convit.no_such_name  # noqa: B018


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_gives_what_it_names(room: str) -> None:
    module = importlib.import_module(f"convit.{room}")
    names = [] if room in BY_MODULE else list(module.__all__)
    assert hasattr(module, "__all__") == (room not in BY_MODULE)
    for name in names:
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), f"convit.{room}.{name} has no docstring"


def test_public_names_of_all_modules_are_documented() -> None:
    public, silent = undocumented(read_sources())
    assert public > 500
    assert silent == []
