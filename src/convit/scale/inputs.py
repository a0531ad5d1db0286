"""What a job reads: files of three kinds (images, tar archives, Parquet), and the images in them, one after another."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import escape, glob
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import NamedTuple

from convit.data.locate import expand_braces, kind_named
from convit.data.parquet import ParquetSamples
from convit.data.remote import RemoteFile, fetch_all, list_files, read_remote, remote_file
from convit.data.shards import read_images
from convit.images import IMAGE_SUFFIXES, find_images
from convit.images.lists import check_inside, is_list, parse_list, split_list
from convit.images.names import is_remote, local_name, path_text, shown, split_url, text_path, url_path
from convit.images.opening import ImageSource, NamedBytes, read_bytes

SUFFIXES = {
    "tar": kind_named("shards").suffixes,
    "parquet": kind_named("parquet").suffixes,
    "image": tuple(IMAGE_SUFFIXES),
}
_FETCHED_TOGETHER = 32  # remote images


class InputFile(NamedTuple):
    """One file of a job's input.

    Attributes:
        kind: "image", "tar" or "parquet".
        path: the URL as `shown` gives it, or the path in a form that opens again.
        size: bytes; -1 if a server does not say.
        mark: what changes with the content: a file's time of change (ns), a server's ETag or the like.
    """

    kind: str
    path: str
    size: int
    mark: str


def list_inputs(
    sources: Iterable[str], *, recursive: bool = True, left_out: Counter[str] | None = None
) -> list[InputFile]:
    """List the files that some sources mean, each once, in the order of the sources and sorted within each.

    Args:
        sources: images, folders, patterns with * or {000..146}, tar and Parquet files, lists of paths or of URLs (see
            `convit.images.lists`), here or behind a URL; a URL that ends in / means all that lies under it.
        recursive: whether folders within folders are searched.
        left_out: as in `convit.images.find_images`.

    Raises:
        ConnectionError, PermissionError: a server cannot be reached, or refuses.
        FileNotFoundError: a source does not exist.
        ValueError: a source holds nothing that can be read, or there is none; two URLs differ only in their queries.
    """
    found: dict[str, InputFile] = {}
    urls: dict[str, str] = {}
    for source in map(local_name, sources):
        remote = _listed_remote(source) if is_remote(source) and not is_list(source) else _listed_by(source)
        if remote is None:
            found.update((file.path, file) for file in _listed_here(source, recursive, left_out))
            continue
        for file in remote:
            entry = _entry(file)
            if urls.setdefault(entry.path, file.url) != file.url:
                raise ValueError(
                    f"the inputs name {entry.path} twice, with different queries, which results leave out; copy such "
                    "files to a folder or a store"
                )
            found[entry.path] = entry
    if not found:
        raise ValueError("the inputs hold no image, tar or Parquet file; name a folder, a pattern or a list")
    return list(found.values())


def _listed_remote(source: str) -> Iterable[RemoteFile]:
    if "*" not in url_path(source) and not source.endswith("/"):
        return map(remote_file, expand_braces(source))
    files = [file for file in list_files(source) if _kind(file.url)]
    if not files:
        raise ValueError(f"{shown(source)} means no image, tar or Parquet file; check the pattern")
    return files


def _listed_by(source: str) -> Iterable[RemoteFile] | None:
    """The files that a list of URLs names, looked up in parallel; a missing one has neither size nor mark."""

    def ask(url: str) -> RemoteFile:
        try:
            return remote_file(url)
        except FileNotFoundError:
            return RemoteFile(url, -1, "")

    if not (urls := named_urls(source)):
        return None
    with ThreadPoolExecutor(_FETCHED_TOGETHER) as pool:
        return list(pool.map(ask, urls))


def named_urls(source: str) -> list[str]:
    """The URLs that a source names: itself, or those in a list, which is a local file or a URL; none for paths.

    Relative names in a list at a URL start from its folder, and must stay inside it.

    Raises:
        ConnectionError, FileNotFoundError, PermissionError: the list is at a URL, and cannot be read.
        ValueError: the list is malformed, or a local one names both URLs and local files.
    """
    at_url = is_remote(source)
    if not is_list(source):
        return expand_braces(source) if at_url else []
    file = "{}://{}{}".format(*split_url(source)) if at_url else split_list(source)[0]
    if not at_url and not Path(file).is_file():
        return []
    folder, _, name = file.rpartition("/")
    content = read_remote(source) if at_url else read_bytes(Path(file))
    names, _ = parse_list(content, PurePath(name if at_url else file))
    others = [name for name in names if not is_remote(name)]
    if at_url:
        for name in others:
            check_inside(name, shown(source))
        return [name if is_remote(name) else f"{folder}/{name}" for name in names]
    if others and len(others) < len(names):
        raise ValueError(f"{source} names URLs and the file {others[0]}; put them into two lists")
    return [] if others else names


def _entry(file: RemoteFile) -> InputFile:
    return InputFile(_kind(file.url) or "image", shown(file.url), file.size, file.mark)


def _listed_here(source: str, recursive: bool, left_out: Counter[str] | None) -> Iterator[InputFile]:
    file, said = split_list(source)
    paths = [file]
    if not os.path.lexists(file):
        paths = []
        for name in expand_braces(file):
            # Path.glob takes no absolute pattern; "?" and "[" have no special meaning, as in URLs
            paths += sorted(glob(escape(name).replace("[*]", "*"))) if "*" in name else [name]  # noqa: PTH207
    if not paths:
        raise FileNotFoundError(f"{source}: no such file; check the pattern")
    suffixes = chain.from_iterable(SUFFIXES.values())
    paths = [f"{path}?{said}" if said else path for path in paths]
    for path in find_images(paths, recursive, left_out=left_out, suffixes=suffixes):
        kind = _kind(path.name) or "image"
        try:
            yield _listed(path, kind)
        except OSError:  # a broken link, say: a row with its error
            yield InputFile(kind, path_text(path), -1, "")


def _listed(path: Path, kind: str) -> InputFile:
    status = path.stat()
    return InputFile(kind, path_text(path), status.st_size, str(status.st_mtime_ns))


def _kind(url: str) -> str | None:
    path = (url_path(url) if is_remote(url) else url).lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if path.endswith(suffixes)), None)


def images_in(files: Sequence[InputFile]) -> Iterator[ImageSource]:
    """The images of some files of one kind: the path of each, or its bytes with the name that results call it by.

    A tar member is called "shards/000.tar#cat.jpg", a row of a Parquet file "x.parquet row 7". Hidden members and
    those without an image's suffix are skipped.

    Raises:
        ConnectionError, PermissionError: a server cannot be reached, or refuses.
        FileNotFoundError: a tar or Parquet file is missing.
        ValueError: one is damaged, or a file has changed since it was listed.
    """
    if files[0].kind == "image":
        here = not is_remote(files[0].path)
        yield from _local_images(files) if here else _remote_images(files)
        return
    for file in files:
        _check_unchanged(file)
        place = file.path if is_remote(file.path) else text_path(file.path)
        if file.kind == "tar":
            for member, content in read_images(place):
                yield NamedBytes(content, f"{shown(file.path)}#{member}")
        else:
            rows = ParquetSamples([place], in_memory=False, reads_labels=False)
            for number in range(len(rows)):
                yield NamedBytes(rows.stored(number), f"{shown(file.path)} row {number}")


def _check_unchanged(file: InputFile) -> None:
    """Compare a file with what was listed; raises the errors of `images_in`, and `OSError` if it cannot be examined."""
    now = _entry(remote_file(file.path)) if is_remote(file.path) else _listed(text_path(file.path), file.kind)
    if (file.size, file.mark) != (now.size, now.mark):
        raise _changed(file)


def _local_images(files: Sequence[InputFile]) -> Iterator[Path]:
    for file in files:
        if file.mark:  # one that could not be asked for when it was listed is a row with an error
            _check_unchanged(file)
        yield text_path(file.path)


def _remote_images(files: Sequence[InputFile]) -> Iterator[bytes]:
    waiting = iter(files)
    while some := list(islice(waiting, _FETCHED_TOGETHER)):
        contents = iter(fetch_all([file.path for file in some if file.mark]))
        for file in some:
            missing = NamedBytes(reason="was not there when it was listed; check the address")
            content = next(contents) if file.mark else missing
            if file.size >= 0 and len(content) != file.size:
                raise _changed(file)
            yield NamedBytes(content, shown(file.path))


def _changed(file: InputFile) -> ValueError:
    """The error for a file that is not what was listed."""
    return ValueError(f"{shown(file.path)} has changed since it was listed; run once with --update")
