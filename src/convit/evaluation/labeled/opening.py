"""Opening labeled images, whatever they are stored in."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from convit.data.locate import Source, find_parquet, find_shards, form_of
from convit.evaluation.labeled.folders import LabeledFolder
from convit.evaluation.labeled.imagenet import RELATIVES, named_relative, open_relative
from convit.evaluation.labeled.images import LabeledImages
from convit.evaluation.labeled.label_maps import Relabeled, read_label_map
from convit.evaluation.labeled.shards import LabeledShards
from convit.evaluation.labeled.splits import SplitError, choose_split, choose_sub_folder, spellings, with_split


def open_labeled(data: Source, *, split: str | None = None, classes: str | Path | None = None) -> LabeledImages:
    """Open labeled images, whatever they are stored in.

    | form | `data` |
    | --- | --- |
    | image folder | a folder with one sub-folder per class |
    | WebDataset shards | "val-{000..004}.tar", "val-*.tar.gz", a folder of .tar files, URLs of such files |
    | Parquet | "val.parquet", "val-*.parquet", a folder of .parquet files, URLs of such files |
    | hub data set | "hub:owner/name", "hub:owner/name:split", "hub:owner/name/config:split" |
    | CIFAR | "cifar10:FOLDER", "cifar100:FOLDER", with ":test" behind it for the test images |
    | ImageNet-1k | "imagenet:FOLDER", "imagenet-real:FOLDER", and so for -v2, -a, -r and -sketch, as distributed |

    Args:
        data: in one of these forms; shards and Parquet files also as a list.
        split: a part of the data: a sub-folder ("val" for data/val), shards or Parquet files whose names begin so
            ("test" for test-000000.tar.gz), or a split of a hub data set or of CIFAR; None for the whole, of hub data
            sets and CIFAR the training images. "val" also finds "validation", and the other way round.
        classes: a label map, which says what class of the model each class of the data means, where names differ: see
            `convit.evaluation.labeled.label_maps.read_label_map`.

    What is expected of ImageNet's folders is said at `convit.evaluation.labeled.imagenet.open_relative`.

    Returns:
        The images, which can be read more than once, in an order that stays the same.

    Raises:
        ConnectionError: a server cannot be reached.
        FileNotFoundError: there is nothing there.
        ImportError: a package that this form needs is not installed.
        PermissionError: a file may not be read.
        ValueError: the data are not as they must be, there is no such split, or the label map does not fit.
    """
    # read first: it is small, and the data may be large
    label_map = None if classes is None else read_label_map(classes)
    images = _open(data, split)
    return images if label_map is None else Relabeled(images, label_map)


def _open(data: Source, split: str | None) -> LabeledImages:
    relative = named_relative(data)
    if relative is not None:
        name, folder = relative[0], relative[1].expanduser()  # no shell does that behind a colon
        return open_relative(name, folder if split is None else choose_sub_folder(folder, split))
    form = form_of(data)
    if form == "hub":
        return _open_hub(str(data), split)
    if split is not None:
        return _open(choose_split(data, split), None)
    match form:
        case "cifar":
            from convit.evaluation.labeled.tables import LabeledCifar

            return LabeledCifar(str(data))
        case "parquet":
            from convit.evaluation.labeled.tables import LabeledParquet

            return LabeledParquet(find_parquet(data))
        case "shards":
            return LabeledShards(find_shards(data))
        case "folder":
            return _open_folder(data)


def _open_folder(data: Source) -> LabeledImages:
    if any(sign in str(data) for sign in "*{"):  # a pattern without a suffix means shards
        return LabeledShards(find_shards(data))
    folder = Path(cast("str | Path", data))
    name, colon, _ = str(data).partition(":")
    if colon and name.startswith("imagenet-") and not folder.exists():
        raise ValueError(f"{name!r} is none of ImageNet's relatives that are known by name: {', '.join(RELATIVES)}")
    if folder.is_file():
        raise ValueError(
            f"{folder} is neither a folder with a sub-folder per class nor a shard (.tar, .tar.gz) nor a Parquet file; "
            "name one of these"
        )
    return LabeledFolder(folder)


def _open_hub(source: str, split: str | None) -> LabeledImages:
    from convit.evaluation.labeled.tables import LabeledHub

    if split is None:
        return LabeledHub(source)
    named = source.removeprefix("hub:").partition(":")[2]
    if named:
        return LabeledHub(with_split(source, split, named))
    first: SplitError | None = None
    for name in spellings(split):
        try:
            return LabeledHub(with_split(source, name, ""))
        except ValueError as error:
            if "Unknown split" not in str(error):  # the library's words, which name the splits that there are
                raise
            first = first or SplitError(str(error))
    assert first is not None
    raise first
