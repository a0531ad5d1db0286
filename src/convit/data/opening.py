"""The one door to labeled data, whatever they are stored in."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from convit.data.classes import ClassName
from convit.data.folders import LabeledFiles
from convit.data.label_maps import Relabeled, read_label_map
from convit.data.locate import Source, file_names, find_files, kind_named, kind_of, located
from convit.data.remote import remote_identity
from convit.data.samples import Samples
from convit.data.splits import check_one_set, choose_split
from convit.output.files import hash_file


def open_samples(
    source: Source,
    *,
    split: str | None = None,
    classes: Sequence[str | ClassName] | None = None,
    label_map: str | Path | None = None,
    root: str | Path | None = None,
    in_memory: bool = False,
) -> Samples:
    """Open labeled images, whatever they are stored in.

    | kind | `source` | classes |
    | --- | --- | --- |
    | image folder | a folder with one sub-folder per class | the sub-folders, sorted |
    | WebDataset shards | "val-{000..004}.tar", "val-*.tar.gz", a folder of .tar files | a `classes.json` there |
    | remote shards | "https://host/val-{000..146}.tar", "s3://bucket/val-*.tar", any URL of fsspec | as above |
    | Parquet | "val.parquet", "val-*.parquet", a folder of .parquet files, a URL | the hub's notes in the file |
    | hub data set | "hub:owner/name", "hub:owner/name:split", "hub:owner/name/config:split" | its own |
    | CIFAR | "cifar10:FOLDER", "cifar100:FOLDER", with ":test" behind it for the test images | its own |
    | ImageNet-1k | "imagenet:FOLDER"; "imagenet-real:FOLDER", so for -v2, -a, -r, -sketch, as distributed | its own |

    What is expected of ImageNet's folders is said at `convit.data.imagenet.open_relative`. Shards and Parquet files may
    also be given as a list of paths, patterns and URLs. Parquet's labels may be names: the sorted distinct ones are
    then the classes. Hub data sets need the package `datasets`, s3:// and other stores the package that fsspec names.

    Args:
        source: in one of these forms.
        split: a part of the data: a sub-folder ("val" for data/val), shards or Parquet files whose names begin so
            ("test" for test-000000.tar.gz), or a split of a hub data set or of CIFAR; None for the whole, of hub data
            sets and CIFAR the training images; a folder or pattern of several parts is refused. Other names of a part
            are found too: see `convit.data.splits.PARTS`.
        classes: class names in a model's order, with WordNet ids or without: the data's own are matched with them, and
            labels that are mere numbers count in them.
        label_map: a file that says what class of the model each class of the data means, where names differ: see
            `convit.data.label_maps.read_label_map`.
        root: folder (or URL) that a relative `source` starts from.
        in_memory: whether encoded images are kept, so that each can be reached by its place at once: those of shards
            all, those of Parquet up to 4 GB. Otherwise they are read again, best in order.

    Returns:
        The images, which can be read more than once, in an order that stays the same.

    Raises:
        ConnectionError: a server cannot be reached.
        FileNotFoundError: there is nothing there.
        ImportError: a package that this form needs is not installed.
        PermissionError: a file may not be read.
        ValueError: the data are not as they must be, a label is not a class, there is no such split, or the label map
            does not fit.
    """
    # read first: it is small, and the data may be large
    wanted = None if label_map is None else read_label_map(label_map)
    kind = kind_of(source, root)
    if not kind.prefixes:
        whole = located(source, root) if isinstance(source, str | Path) else [located(each, root) for each in source]
        if split is None:
            check_one_set(whole)
        else:
            source, root, split = choose_split(whole, split), None, None
            kind = kind_of(source)
    module = import_module(f"convit.data.{kind.module}")
    samples: Samples = module.open_source(source, root=root, split=split, in_memory=in_memory)
    samples.check_labels()
    if classes is not None:
        samples.count_in(classes)
    return samples if wanted is None else Relabeled(samples, wanted)


def fingerprint(source: Source, root: str | Path | None = None, samples: Samples | None = None) -> dict[str, str]:
    """What the data at `source` are, by name: kept beside a run, so that its result can be traced to its data.

    `source`, `root` and errors are those of `open_samples`; `samples` are the data, where they are open already.

    Returns:
        Shards, Parquet and CIFAR files: name → sha256. Remote ones: URL → ETag (or what the server has instead) and
        size; nothing is fetched. A hub data set: its name → the fingerprint of the `datasets` library. Images in files
        of their own: the source → `LabeledFiles.listing`, for which none is read. Other `samples`, such as those behind
        a label map: the source → the `sha256` of `Samples.identity`.
    """
    # opened samples say what they are, so that their folder is not listed again
    kind = kind_named(samples.kind) if samples is not None and samples.kind else kind_of(source, root)
    if kind.suffixes:
        files = find_files(source, root, kind.name)
        digests = (hash_file(file) if isinstance(file, Path) else remote_identity(file) for file in files)
        return dict(zip(file_names(files), digests, strict=True))
    if samples is None:
        samples = open_samples(source, root=root)
    if kind.name == "hub":
        return {str(source): str(getattr(samples, "fingerprint"))}  # noqa: B009
    if isinstance(samples, LabeledFiles):
        return {str(source): samples.listing()}
    found = samples.identity()
    return {file["name"]: file["sha256"] for file in found.get("files", [{**found, "name": str(source)}])}
