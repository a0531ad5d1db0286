"""An index of the images of a folder or a list: brought up to date, searched, and looked through for duplicates."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from torch import nn

from convit.data.samples import read_stored
from convit.images import ImageSource
from convit.images.lists import is_list
from convit.images.names import path_text, text_path
from convit.inference.embedder import Embedder
from convit.search.duplicates import Duplicate, find_duplicates
from convit.search.identity import (
    Identity,
    check_made_so,
    identity_of,
    load_embedder,
    locked,
    precision_of,
    read_identity,
    unit_vector,
)
from convit.search.listing import Files, ListedImage, list_files, split_of
from convit.search.nearest import Hit, has_index, mapped_vectors, search_approximately, search_exactly, settle
from convit.search.store import Store, check_place
from convit.search.updating import Update, carry_out, plan_update
from convit.search.vectors import Added, Vectors, add_vectors, check_vectors, identity_of_vectors, store_of
from convit.search.where import parse_where

APPROXIMATE_FROM = 200_000
_HIT_COLUMNS = ("path", "label", "width", "height")
_log = logging.getLogger(__name__)


class Index:
    """Embeddings of the images of a folder or a list, in a folder of its own; made by `Index.open`.

    Args:
        db: the index's folder.
        model: a name or a module; None for the one that made the index, or the default.
        weights: a file or folder instead of published weights.
        approximate_from: number of images from which searches without a condition are approximate.
        **options: for `convit.Embedder`: device, precision, batch_size, workers, img_size, …

    Attributes:
        db: as given.
        identity: which model made the index; None before its first update.

    Raises:
        ValueError: the index was made by another model, or is damaged.
        FileNotFoundError, OSError: the weights cannot be found or fetched.

    For example::

        index = Index.open("holiday.db", create=True, model="convit_nano_patch4_32.cifar10")
        index.update("holiday")
        for hit in index.search("beach.jpg", k=3, where="width >= 1000"):
            print(hit.score, hit.path)
    """

    def __init__(
        self,
        db: str | Path,
        *,
        model: str | nn.Module | None = None,
        weights: str | Path | None = None,
        approximate_from: int = APPROXIMATE_FROM,
        **options: Any,
    ) -> None:
        self.db = Path(db)
        self.approximate_from = approximate_from
        self.identity = read_identity(self.db)
        self._model, self._weights = model, weights
        self._options = {name: value for name, value in options.items() if value is not None}
        if self.identity is not None:
            check_made_so(self.db, self.identity, model, weights, self._options)

    @classmethod
    def open(cls, db: str | Path, *, create: bool = False, **options: Any) -> Index:
        """Open an index, with options as for the class; with `create` an absent one is made, at its first update.

        Raises:
            FileNotFoundError: there is none, and `create` is false.
            FileExistsError: the folder holds something else.
            ValueError: as for the class.
        """
        check_place(Path(db), create=create)
        return cls(db, **options)

    @property
    def root(self) -> Path:
        """The folder that the images' paths start from; raises `FileNotFoundError` if nothing is indexed yet."""
        return text_path(self._known.root)

    @property
    def place(self) -> Path:
        """What was indexed: a folder, a list, the results of a job; raises `FileNotFoundError` if nothing is yet."""
        return text_path(self._known.place)

    @property
    def model_name(self) -> str:
        """The name of the model that made the index; raises `FileNotFoundError` if nothing is indexed yet."""
        return self._known.name

    def __len__(self) -> int:
        return 0 if self.identity is None else len(self._store)

    @cached_property
    def embedder(self) -> Embedder:
        """The model, loaded when it is first needed; its errors are those of the class."""
        return load_embedder(self.db, self.identity, self._model, self._weights, self._options)

    def update(
        self,
        source: str | Path,
        *,
        commit_every: int = 256,
        expect: Callable[[int], None] | None = None,
        advance: Callable[[], None] | None = None,
    ) -> Update:
        """Bring the index up to date with its folder or list.

        New and changed images are embedded, deleted ones leave. An image counts as changed where its size or time
        of writing is another than before and its content too. What was embedded is kept every few seconds, so that an
        update that was killed goes on from there. A precision other than before is kept and logged as a warning: an
        index made on a GPU can be brought up to date without one. Classes are those of the folders, or of the list as
        it is now.

        Args:
            source: a folder, or a list of images as `convit.images.lists.list_source` writes it; after the first time
                the same one, or wherever it has been moved.
            commit_every: images after which the rows are kept, at the latest.
            expect: called once with the number of images to embed.
            advance: called after each of them.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such folder or list.
            ValueError: it holds no image, the list is not as it must be, the index belongs to another folder, list,
                model or preprocessing, or is damaged.
            BlockingIOError: another process is updating the index.
            OSError: the index cannot be written.
        """
        if not is_list(source) and Path(source).is_file():
            raise NotADirectoryError(f"{source} is a file; name the folder of the images, or a list of them")
        if commit_every < 1:
            raise ValueError(f"commit_every is {commit_every}, but must be at least 1")
        left_out = Counter[str]()
        files = list_files(source, left_out)  # what holds no image is refused before anything is made
        with locked(self.db):
            self._read_again()
            self._keep_identity(files)
            plan = plan_update(files, self._store.files())
            plan.done.left_out = left_out
            if plan.embed:
                self._note_precision()
            if expect is not None:
                expect(len(plan.embed))
            embed = self.embedder.iterate if plan.embed else lambda _: iter(())
            done = carry_out(plan, files.root, self._store, embed, commit_every=commit_every, advance=advance)
            has_changed = bool(done.new or done.changed or done.removed or plan.touched)
            done.is_approximate = settle(self._store, self.approximate_from, has_changed=has_changed)
        return done

    def add_vectors(
        self,
        vectors: Vectors,
        *,
        expect: Callable[[int], None] | None = None,
        advance: Callable[[], None] | None = None,
    ) -> Added:
        """Take in the vectors of a job, a shard at a time; those that are in are not read again.

        The job's own record says which model made them. Such an index has no labels, sizes and hashes of images.
        `vectors` is what `convit.scale.read_vectors` finds; `expect` is called once with the number of shards
        to read, `advance` after each of them.

        Raises:
            ValueError: there is not one vector per image, another model or preprocessing made what is there, or the
                index is of a folder.
            BlockingIOError, OSError: as in `update`; or the results cannot be read.
        """
        check_vectors(self.db, self.identity, vectors)
        with locked(self.db):
            self._read_again()
            check_vectors(self.db, self.identity, vectors)
            if self.identity is None:
                identity = identity_of_vectors(vectors, self._model, self._weights, self._options)
                check_vectors(self.db, identity, vectors)  # the model may be described otherwise by now
                self.identity = identity
                self.identity.write(self.db)
            self._store = store_of(vectors, self.db, self._known.dim)
            done = add_vectors(vectors, self._store, expect, advance)
            has_changed = bool(done.images or done.removed)
            done.is_approximate = settle(self._store, self.approximate_from, has_changed=has_changed)
        return done

    def search(
        self, source: ImageSource | Float32[np.ndarray, " dim"], k: int = 10, *, where: str | None = None
    ) -> list[Hit]:
        """Find the images most like one.

        Args:
            source: an image, as `convit.Embedder` takes it, or a vector of the model (float32, any length but 0).
            k: how many to find.
            where: a condition over path, sha256, size, mtime_ns, width, height and label, see
                `convit.search.where.parse_where`.

        Returns:
            The images, the most similar first; fewer than `k` where there are no more.

        Raises:
            ImageError: the image cannot be read.
            ValueError: `k` or `where` is not as it must be, the model is another one, or the index is damaged.
            FileNotFoundError: nothing was indexed yet.
        """
        if k < 1:
            raise ValueError(f"k is {k}, but must be at least 1")
        store = self._store
        where = None if where is None else parse_where(where)
        is_vector = isinstance(source, np.ndarray) and source.ndim == 1
        vector = unit_vector(np.asarray(source), self._known) if is_vector else self.embedder(source)
        if where is None and len(store) >= self.approximate_from and has_index(store):
            found = search_approximately(store, vector, k)
        else:
            found = search_exactly(store, vector, k, where)
        rows = store.take([row for row, _ in found], _HIT_COLUMNS)
        return [
            Hit(rank, score=min(1.0, max(-1.0, score)), **row)
            for rank, (row, (_, score)) in enumerate(zip(rows, found, strict=True), 1)
        ]

    def duplicates(self, **criteria: Any) -> list[Duplicate]:
        """Find copies and near-copies among the indexed images; see `convit.search.find_duplicates`.

        Raises:
            FileNotFoundError: nothing was indexed yet.
            ValueError: an option is out of range, a split is unknown, or the index is damaged.
        """
        if self._known.made_from is not None:
            raise ValueError(f"{self.db} was made from vectors, without hashes of images; name their folder instead")
        row_ids, vectors = mapped_vectors(self._store)
        rows = {row["_rowid"]: row for row in self._store.read(("path", "label", "sha256"), row_ids=True).to_pylist()}
        images = [
            ListedImage(name, row["label"], split_of(str(path)), row["sha256"], partial(read_stored, self.root / path))
            for row in map(rows.__getitem__, row_ids.tolist())
            for name, path in ((row["path"], text_path(row["path"])),)
        ]
        return find_duplicates(images, vectors, **criteria)

    @property
    def _known(self) -> Identity:
        if self.identity is None:
            raise FileNotFoundError(f"{self.db}: nothing was indexed yet; run convit index FOLDER --db {self.db} first")
        return self.identity

    @cached_property
    def _store(self) -> Store:
        return Store(self.db, self._known.dim, create=False, in_shards=self._known.made_from is not None)

    def _read_again(self) -> None:
        """Take over what another process has done since the index was opened; called while it is locked."""
        known = read_identity(self.db)
        self.__dict__.pop("_store", None)  # a table that is open does not show what others wrote
        if self.identity is not None and known is None:
            raise FileNotFoundError(f"{self.db}: the index has been deleted meanwhile; open it again to make a new one")
        if known is not None and known != self.identity:
            check_made_so(self.db, known, self._model, self._weights, self._options)
            self.__dict__.pop("embedder", None)
            self.identity = known

    def _keep_identity(self, files: Files) -> None:
        """Keep what a new index is of; later refuse another folder or list, but for one that was moved."""
        file = files.listed_in
        place = {
            "root": path_text(files.root.resolve()),
            "listed_in": None if file is None else path_text(file.resolve()),
        }
        known = self.identity
        if known is not None and known.made_from is not None:
            raise ValueError(f"{self.db} was made from the vectors in {known.made_from}; update it with --from")
        if known is None:
            self.identity = identity_of(self.embedder, place, self._model, self._weights)
            self.identity.write(self.db)
        elif known.model_dump(include=set(place)) != place:
            # it is known by its images, where the old one is no more
            moved = not (self.root.exists() and self.place.exists())
            if not moved or not any((files.root / text_path(path)).exists() for path in self._store.files()):
                what = "folder" if known.listed_in is None else "list (with the same --images)"
                raise ValueError(
                    f"{self.db} is the index of {known.place}, not of {file or files.root}; name that {what}, or "
                    "another index"
                )
            self.identity = known.model_copy(update=place)
            _log.info("%s has moved to %s", known.place, self.identity.place)
            self.identity.write(self.db)
        if "_store" not in self.__dict__:
            self._store = Store(self.db, self._known.dim, create=True)

    def _note_precision(self) -> None:
        """Keep in mind, and say, that new vectors are computed in another precision than those that are there."""
        known, now = self._known, precision_of(self.embedder.identity)
        if now not in known.precisions:
            before = " and ".join(known.precisions)
            _log.warning(
                "%s was made in %s, but new images are embedded in %s: scores move a little; name one precision, or "
                "make another index",
                *(self.db, before, now),
            )
            self.identity = known.model_copy(update={"precisions": (*known.precisions, now)})
            self.identity.write(self.db)
