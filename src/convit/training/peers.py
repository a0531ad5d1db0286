"""Models of other libraries, to compare with and to learn from; nothing else here knows them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

SOURCES = ("timm", "torchvision")


def is_peer(name: str) -> bool:
    """Whether a name is written as a model of another library: "timm:NAME" or "torchvision:NAME"."""
    return name.partition(":")[0] in SOURCES and ":" in name


def create_peer(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
    """A model of timm or torchvision.

    `pretrained` loads its default weights, which that library fetches; options are what that library's call takes.

    Raises:
        ImportError: timm is not installed.
        ValueError: the library has no such model, or does not take an option.
        ConnectionError: its weights cannot be fetched.
    """
    source, _, model = name.partition(":")
    try:
        if source == "timm":
            return import_module("timm").create_model(model, pretrained=pretrained, **options)
        return import_module("torchvision.models").get_model(
            model, weights="DEFAULT" if pretrained else None, **options
        )
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs the package '{source}'; install it with: pip install {source}") from error
    except OSError as error:
        raise ConnectionError(
            f"the weights of {name} cannot be fetched ({error}); fetch them once with a network"
        ) from error
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{source} cannot make {model!r} ({' '.join(str(error).split())}); see its list of models"
        ) from error
