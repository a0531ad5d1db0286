"""What `convit explain` shows of one image: computed here, drawn by `drawing.py` and `page.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from convit.analysis.attention import LayerMaps, attention_maps, patch_grid
from convit.analysis.gating import gates, locality_centers
from convit.analysis.rollout import attention_rollout, class_rollout
from convit.data.classes import find_name, plain_name
from convit.images.opening import ImageSource, open_image, source_name
from convit.inference.classifier import Classifier
from convit.inference.loaded import load_by_name
from convit.inference.models import find_exported
from convit.inference.predicting import Predictor
from convit.model import ConViT
from convit.optimization.precision import computed_in, default_precision, dtype_of, pick_device
from convit.output.rows import Prediction
from convit.output.text import first_few
from convit.transforms import normalize_batch

Heads = Float32[np.ndarray, "heads rows columns"]
Query = tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class LayerView:
    """What the query reads in one layer, head by head.

    Attributes:
        number: the layer, counted from 1.
        maps: by kind: "content", "position" and "blended" in GPSA layers, "blended" alone in the others; each
            (heads, rows, columns), a share of the query's attention per patch.
        matrices: by kind, what every patch reads, (heads, queries, keys); the class token alone where that is the
            query. Empty unless asked for.
        gate: the gate of each head; None in ordinary layers.
    """

    number: int
    maps: dict[str, Heads]
    matrices: dict[str, Float32[np.ndarray, "heads queries keys"]]
    gate: Float32[np.ndarray, " heads"] | None


@dataclass(frozen=True, eq=False)
class Explanation:
    """One image through one model.

    Attributes:
        name: what to call the image.
        model: the model's name.
        pixels: the image as the model sees it: resized, cropped, and padded where the model pads.
        grid: (rows, columns) of patches.
        predictions: the likeliest classes, best first, or those asked for; empty for a model without classes.
        query: (row, column) of the patch whose attention `layers` hold, from 0; None for the class token.
        layers: the chosen layers.
        heads: the chosen heads, counted from 1.
        class_attention: by layer number, what the class token reads of each patch; empty without a class token.
        rollout: what reaches the class token of each patch by attention rollout; the mean over the patches' rows
            without one. Divided by its sum over the patches.
        class_maps: for each prediction where the model looks for it, see `convit.analysis.class_rollout`; each divided
            by its sum, unless that is 0.
        gates: one row per GPSA layer, one column per head; None without GPSA layers.
        centers: (row, column) offsets per GPSA layer and head, NaN where there is none; None without GPSA layers.
    """

    name: str
    model: str
    pixels: UInt8[np.ndarray, "height width 3"]
    grid: tuple[int, int]
    predictions: tuple[Prediction, ...]
    query: Query
    layers: tuple[LayerView, ...]
    heads: tuple[int, ...]
    class_attention: dict[int, Heads]
    rollout: Float32[np.ndarray, "rows columns"]
    class_maps: tuple[Float32[np.ndarray, "rows columns"], ...]
    gates: Float32[np.ndarray, "layers heads"] | None
    centers: Float32[np.ndarray, "layers heads 2"] | None


def explain(
    model: ConViT,
    image: ImageSource,
    *,
    query: Query | str = "center",
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    img_size: int | tuple[int, int] | None = None,
    crop_pct: float | None = None,
    top_k: int = 3,
    classes: Sequence[str] = (),
    apply_exif: bool = True,
    with_matrices: bool = False,
) -> Explanation:
    """Run a model on one image and keep what its heads look at.

    Args:
        model: a ConViT in its plain form (see `load_plain`), for color images.
        image: a path, bytes, a Pillow image or an array.
        query: the (row, column) of a patch from 0, "center" for the patch in the middle, None for the class token.
        layers: the layers to look into, from 1; None for all that the query takes part in.
        heads: the heads to look at, from 1; None for all.
        img_size: side or (height, width) of the model's input, pixels; None: what the model was made for.
        crop_pct: input side over resized side, in [0.01, 1]; None: the model's.
        top_k: how many of the likeliest classes to name.
        classes: the classes to name instead, by name or number.
        apply_exif: whether the photograph is turned upright.
        with_matrices: also keeps what every other patch reads, for a page on which the query can be changed.

    Raises:
        ImageError: the image cannot be read.
        ValueError: the query is outside of the grid, or is the class token where a layer has none; a layer, head or
            class does not exist; the model takes no color images or not this size.
    """
    if model.config.in_chans != 3:
        raise ValueError(f"the model takes {model.config.in_chans} channels, but only color images are explained")
    chosen_layers = _chosen("layer", layers, model.config.depth)
    chosen_heads = _chosen("head", heads, model.config.num_heads)
    opened = open_image(image, apply_exif=apply_exif)
    if model.num_classes and model.global_pool != "":
        predictor = Classifier(model, top_k=model.num_classes, img_size=img_size, crop_pct=crop_pct)
    elif classes:
        raise ValueError(f"the model has no classes, and none is called {classes[0]!r}; leave the class out")
    else:
        predictor = Predictor(model, None, img_size=img_size, crop_pct=crop_pct)
    pixels = predictor.transform.to_pixels(opened)
    weight = next(model.parameters())
    batch = normalize_batch(torch.from_numpy(pixels.copy()[None]).to(weight.device), predictor.transform.settings)
    images = batch.to(weight.dtype)
    grid = patch_grid(model, images)
    place = _place(query, grid)
    if place is None:
        of_token = _with_class_token(model)
        chosen_layers = of_token if layers is None else chosen_layers
    views, class_attention = _look(model, images, place, chosen_layers, chosen_heads, with_matrices)
    predictions = _choose(predictor(opened), top_k, classes) if isinstance(predictor, Classifier) else ()
    has_gates = model.config.local_up_to_layer > 0
    return Explanation(
        name=source_name(image),
        model=predictor.name,
        pixels=_padded(pixels, grid, model.config.patch_size),
        grid=grid,
        predictions=predictions,
        query=place,
        layers=tuple(views),
        heads=chosen_heads,
        class_attention=class_attention,
        rollout=_rollout(model, images, grid),
        class_maps=_class_maps(model, images, predictions),
        gates=_array(gates(model)) if has_gates else None,
        centers=_array(locality_centers(model)) if has_gates else None,
    )


def _chosen(what: str, numbers: Sequence[int] | None, count: int) -> tuple[int, ...]:
    for number in numbers or ():
        if not 1 <= number <= count:
            raise ValueError(f"there is no {what} {number}; the model has {what}s 1 to {count}")
    return tuple(range(1, count + 1)) if numbers is None else tuple(dict.fromkeys(numbers))


def _place(query: Query | str, grid: tuple[int, int]) -> Query:
    if isinstance(query, str) and query != "center":
        raise ValueError(f"the query is {query!r}, but must be (row, column), 'center', or None for the class token")
    return (grid[0] // 2, grid[1] // 2) if isinstance(query, str) else query


def _with_class_token(model: ConViT) -> tuple[int, ...]:
    first, last = model.config.local_up_to_layer + 1, model.config.depth
    if first > last:
        raise ValueError("the model has no class token to be the query; give the row and column of a patch")
    return tuple(range(first, last + 1))


def _look(
    model: ConViT, images: torch.Tensor, place: Query, layers: Sequence[int], heads: Sequence[int], whole: bool
) -> tuple[list[LayerView], dict[int, Heads]]:
    """The query's view in the chosen layers, and the class token's wherever it is."""
    kept = [head - 1 for head in heads]
    views: dict[int, LayerView] = {}
    class_attention: dict[int, Heads] = {}
    for maps in attention_maps(model, images):
        number = maps.index + 1
        if maps.has_class_token:
            class_attention[number] = _array(maps.class_attention()[0])
        if number in layers:
            gate = None if maps.gate is None else _array(maps.gate)[kept]
            views[number] = LayerView(number, *_query_maps(maps, place, kept, whole), gate)
    return [views[number] for number in layers], class_attention


def _query_maps(
    maps: LayerMaps, place: Query, heads: list[int], whole: bool
) -> tuple[dict[str, Heads], dict[str, np.ndarray]]:
    """The query's maps, and with `whole` those of every patch."""
    if place is None:
        found = _array(maps.class_attention()[0])[heads]
        return {"blended": found}, {"blended": found.reshape(len(heads), 1, -1)} if whole else {}
    kinds = ("blended",) if maps.position is None else ("content", "position", "blended")
    found = {kind: _array(maps.from_patch(*place, kind)[0])[heads] for kind in kinds}
    return found, {kind: _array(maps.among_patches(kind)[0])[heads] for kind in kinds if whole}


def _rollout(model: ConViT, images: torch.Tensor, grid: tuple[int, int]) -> Float32[np.ndarray, "rows columns"]:
    whole = attention_rollout(model, images)[0]
    row = whole[0, 1:] if model.num_prefix_tokens else whole.mean(dim=0)
    return _array((row / row.sum()).unflatten(0, grid))


def _class_maps(
    model: ConViT, images: torch.Tensor, predictions: Sequence[Prediction]
) -> tuple[Float32[np.ndarray, "rows columns"], ...]:
    found = (class_rollout(model, images, [each.index])[0] for each in predictions)  # one at a time: memory
    return tuple(_array(each / each.sum().clamp_min(torch.finfo(each.dtype).tiny)) for each in found)


def _choose(ranked: Sequence[Prediction], top_k: int, classes: Sequence[str]) -> tuple[Prediction, ...]:
    """The classes asked for, or else the likeliest, from a `Classifier`'s ranking of all."""
    by_index = {each.index: each for each in ranked}
    labels = [by_index[index].label for index in range(len(ranked))]
    return tuple(by_index[_class_index(each, labels)] for each in classes) or tuple(ranked[:top_k])


def _class_index(name: str, labels: Sequence[str]) -> int:
    """The class of a name, or of a number where the classes are not called by numbers."""
    index = find_name(labels)(name)
    if index is None and name.isascii() and name.isdecimal() and not any(map(str.isdecimal, labels)):
        index = find_name([str(number) for number in range(len(labels))])(name)
    if index is not None:
        return index
    meant = [str(number) for number, label in enumerate(labels) if plain_name(label) == plain_name(name)]
    if meant:
        raise ValueError(f"the model has no one class {name!r}: {' and '.join(meant)} are called so; give a number")
    near = get_close_matches(name, labels)
    known = f"the nearest: {first_few(near, 5)}" if near else f"there are {first_few(labels, 5)}"
    raise ValueError(f"the model has no class {name!r}; {known}; give a name, or a number from 0 to {len(labels) - 1}")


def _padded(pixels: np.ndarray, grid: tuple[int, int], patch: int) -> np.ndarray:
    """Gray where a model pads its input, so that the patches lie over what they saw."""
    missing = [(0, grid[0] * patch - pixels.shape[0]), (0, grid[1] * patch - pixels.shape[1]), (0, 0)]
    return np.pad(pixels, missing, constant_values=127)


def _array(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def load_plain(
    model: str | None = None, weights: str | Path | None = None, *, device: str = "auto", precision: str = "auto"
) -> ConViT:
    """Load a model as the paper writes it, in evaluation mode, on its device; arguments as of `convit.Classifier`.

    Half precisions that a CPU is slower in are computed in fp32, as there.

    Raises:
        ValueError: the name, the device or the precision is unknown, or the model is not a ConViT.
        FileNotFoundError, OSError: the weights cannot be found or fetched.
    """
    if model is not None and find_exported(model) is not None:
        raise ValueError(f"{model} is an exported folder, which only gives outputs; name the weights it was made from")
    place = pick_device(device)
    asked = default_precision(place) if precision == "auto" else precision
    dtype_of(asked)  # refuses what no module is cast to
    dtype = dtype_of(computed_in(asked, place))
    loaded = load_by_name(model, weights)
    if not isinstance(loaded, ConViT):
        raise ValueError(f"the {type(loaded).__name__} is no ConViT, so it cannot be looked into; take a ConViT")
    return loaded.to(device=place, dtype=dtype).eval()
