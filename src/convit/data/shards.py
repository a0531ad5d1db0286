"""WebDataset shards: tar files, here or behind a URL, whose neighboring members make a sample."""

from __future__ import annotations

import hashlib
import lzma
import sys
import tarfile
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from gzip import BadGzipFile
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from convit.data.classes import CLASSES_FILE, classes_beside, named, number_labels
from convit.data.identity import identity_of_files
from convit.data.locate import Source, find_files
from convit.data.remote import read_on
from convit.data.samples import LabeledImage, Samples, check_label, checked_places
from convit.images import IMAGE_SUFFIXES
from convit.images.limits import current_limits
from convit.images.listing import is_hidden
from convit.images.names import is_remote, shown
from convit.output.files import hash_file
from convit.output.text import short

Shard = Path | str  # a Path lies here, a str is a URL
Sample = tuple[str, bytes, int]
_Members = tuple[str, dict[str, bytes]]
_T = TypeVar("_T")

LABEL_SUFFIX = "cls"
_LARGEST_HEADER = 2**20  # bytes of a long name and the like
_MOST_PACKED, _UNSUSPECTED = 100, 2**28  # how far images may be compressed once more; bytes that may be in any case


class ShardSamples(Samples):
    """All samples of some shards, in the order of the files.

    They are read through once here, so that a damaged shard or a wrong label is found at once; remote ones are streamed
    for it. A `classes.json` beside the first shard says what the labels mean.

    Args:
        shards: .tar or compressed tar files, or their URLs, whose samples are neighboring members
            `<key>.<image suffix>` and `<key>.cls`.
        in_memory: whether encoded images are kept, so that each can be reached by its place: for sets that fit
            (CIFAR-10 takes 60 MB). Otherwise they are read again, in order.
        needs_label: whether a sample without a label is an error; else its label is -1.

    Raises:
        ConnectionError, FileNotFoundError, PermissionError, ValueError: as `read_shard`; or there is no sample, or
            `classes.json` is not a list of classes.
    """

    kind = "shards"

    def __init__(self, shards: Sequence[Shard], *, in_memory: bool = False, needs_label: bool = True) -> None:
        self.shards, self._needs_label = tuple(shards), needs_label
        self._sha256: dict[Shard, str] = {}  # of remote shards: what was read; files here are read when asked
        self._ends: list[int] = []
        self._images: list[bytes] | None = [] if in_memory else None
        names: list[str] = []
        labels: list[int] = []
        for shard in self.shards:
            note = partial(self._sha256.__setitem__, shard)
            for key, content, label in read_shard(shard, note_sha256=note, needs_label=needs_label):
                names.append(key)
                labels.append(label)
                if self._images is not None:
                    self._images.append(content)
            self._ends.append(len(labels))
        if not labels:
            raise ValueError(
                f"{', '.join(map(shown, shards))} hold no sample; name shards with <key>.jpg and <key>.cls"
            )
        beside = classes_beside(self.shards[0])
        if beside is None:
            labels, found = number_labels(labels)
            beside = f"{shown(self.shards[0])} without a {CLASSES_FILE}", named(found)
        super().__init__(labels, names, beside[1], beside[0])

    def stored(self, index: int) -> bytes:
        """One encoded image; without `in_memory` its shard is read up to it."""
        if self._images is not None:
            return self._images[index]
        (image,) = self._stream([index])
        return image[1]

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """Read the samples at some ascending places; shards without one of them are left out, others read up to it."""
        if self._images is not None:
            return super().take(places)
        wanted = self._stream(checked_places(places, len(self)))
        return (LabeledImage(key, image, self.labels[place]) for place, image, key in wanted)

    def _stream(self, places: Sequence[int]) -> Iterator[tuple[int, bytes, str]]:
        for shard, start, end in zip(self.shards, [0, *self._ends], self._ends, strict=False):
            following = iter(places[bisect_left(places, start) : bisect_left(places, end)])
            place = next(following, None)
            if place is None:
                continue
            for number, (key, content, _) in enumerate(read_shard(shard, needs_label=self._needs_label), start=start):
                if number == place:
                    yield number, content, key
                    place = next(following, None)
                    if place is None:
                        break
            else:
                raise ValueError(
                    f"{shown(shard)} holds fewer samples than when it was opened; leave it alone meanwhile"
                )

    def identity(self) -> dict[str, Any]:
        """Name and sha256 of each shard, and of them all: the shard's own where there is one, else over their list."""
        files = [
            (shard.name, hash_file(shard)) if isinstance(shard, Path) else (shown(shard), self._sha256[shard])
            for shard in self.shards
        ]
        return identity_of_files(self.kind, files)


def open_source(source: Source, *, root: str | Path | None, split: str | None, in_memory: bool) -> Samples:
    """Open shards; see `ShardSamples`."""
    return ShardSamples(find_files(source, root), in_memory=in_memory)


def read_shard(
    shard: Shard,
    classes: int | None = None,
    *,
    note_sha256: Callable[[str], None] | None = None,
    needs_label: bool = True,
) -> Iterator[Sample]:
    """Yield (key, encoded image, class index) of one shard, in file order.

    A URL is streamed: nothing is kept on disk, and a connection that breaks is taken up again.

    Args:
        shard: the file, or its URL.
        classes: number of classes, where known; labels must lie below it.
        note_sha256: is told the sha256 of a remote shard, once it has been read to its end.
        needs_label: whether a sample without a label is an error; else its label is -1.

    Raises:
        ConnectionError: a remote shard cannot be read.
        FileNotFoundError: there is no such file.
        PermissionError: it may not be read.
        ValueError: it is not a tar archive, is truncated, a sample lacks its image or its label, or a label is not a
            class.
    """
    source = shown(shard)
    for key, sample in _read(shard, lambda file: _noted(file, source, note_sha256)):
        image, label = _assemble(source, key, sample, needs_label=needs_label)
        if LABEL_SUFFIX in sample:
            check_label(label, key, source, classes)
        yield key, image, label


def read_images(shard: Shard) -> Iterator[tuple[str, bytes]]:
    """Yield (name, encoded image) of every image in a tar file, in file order, whatever else belongs to it.

    Raises:
        ConnectionError, FileNotFoundError, PermissionError, ValueError: as `read_shard`.
    """
    members = _read(shard, lambda file: _members(file, shown(shard)))
    return (member for member in members if member[0].lower().endswith(tuple(IMAGE_SUFFIXES)))


def _read(shard: Shard, parse: Callable[[Any], Iterator[_T]]) -> Iterator[_T]:
    return read_on(str(shard), parse) if is_remote(shard) else parse(Path(shard))


def _noted(file: Path | BinaryIO, source: str, note_sha256: Callable[[str], None] | None) -> Iterator[_Members]:
    if note_sha256 is None or isinstance(file, Path):
        yield from _samples(file, source)
        return
    hashed = _HashedFile(file)
    yield from _samples(hashed, source)
    while hashed.read(1 << 20):  # tarfile leaves off at the end of the archive, which need not be that of the file
        pass
    note_sha256(hashed.sha256.hexdigest())


class _HashedFile:
    """A file that is read once from its beginning, and its sha256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def _samples(file: Path | BinaryIO | _HashedFile, source: str) -> Iterator[_Members]:
    sample: dict[str, bytes] = {}
    key = ""
    for name, data in _members(file, source):
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if folder + slash + stem != key and sample:
            yield key, sample
            sample = {}
        key = folder + slash + stem
        sample[suffix.lower()] = data
    if sample:
        yield key, sample


def _members(file: Path | BinaryIO | _HashedFile, source: str) -> Iterator[tuple[str, bytes]]:
    try:
        with _open_tar(file) as archive:
            unpacked = 0
            for member in archive:
                _check_size(member, current_limits().file_bytes)  # of others too: to be passed over they are unpacked
                unpacked += member.size
                if isinstance(file, Path) and unpacked > max(_UNSUSPECTED, _MOST_PACKED * file.stat().st_size):
                    raise tarfile.ReadError(f"it unpacks to more than {_MOST_PACKED} times its size, as no images do")
                wanted = member.isfile() and not any(map(is_hidden, member.name.split("/")))
                content = archive.extractfile(member) if wanted else None
                if content is not None:
                    yield member.name, content.read()
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        if isinstance(error, OSError) and not _means_damage(error):
            raise
        raise ValueError(f"{source} cannot be read as a tar archive ({error}); fetch or write it again") from error


def _open_tar(file: Path | BinaryIO | _HashedFile) -> tarfile.TarFile:
    if isinstance(file, Path):
        return tarfile.open(file, tarinfo=_StrictHeader)
    stream: Any = file  # of which a stream of members asks nothing but `read`
    return tarfile.open(fileobj=stream, mode="r|*", tarinfo=_StrictHeader)


def _means_damage(error: OSError) -> bool:
    # what decompressors complain of has no number; what the system or the network say is another matter
    return isinstance(error, BadGzipFile) or (type(error) is OSError and error.errno is None)


def _check_size(member: tarfile.TarInfo, most: int) -> None:
    if not 0 <= member.size <= most:
        raise tarfile.ReadError(
            f"it states {member.size} bytes for {short(member.name)}, but at most {most} are read (CONVIT_LIMITS: "
            "file_bytes)"
        )


class _StrictHeader(tarfile.TarInfo):
    """A header that complains where tarfile would take a damaged or cut archive for one that ends here."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            member = super().frombuf(buf, encoding, errors)
            # long names and the like are read as a whole before the member that they belong to is known
            _check_size(member, sys.maxsize if member.isfile() else _LARGEST_HEADER)
            return member
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the block of zeros that ends every whole archive
                raise
            raise tarfile.ReadError("it is cut off or damaged") from error


def _assemble(source: str, key: str, sample: dict[str, bytes], *, needs_label: bool) -> tuple[bytes, int]:
    image = next((sample[suffix] for suffix in sample if f".{suffix}" in IMAGE_SUFFIXES), None)
    if image is None or (needs_label and LABEL_SUFFIX not in sample):
        raise ValueError(
            f"sample {key!r} of {source} has members {sorted(sample)}, but needs an image (such as .jpg) and a "
            f".cls with the class index"
        )
    try:
        return image, int(sample.get(LABEL_SUFFIX, -1))
    except ValueError as error:
        raise ValueError(
            f"sample {key!r} of {source} has the label {sample[LABEL_SUFFIX][:20]!r}, but .cls must hold a whole number"
        ) from error
