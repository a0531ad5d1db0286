"""An index of a folder's pictures: brought up to date, searched, and looked through for duplicates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float32
from torch import nn

from convit.evaluation.weights_used import fingerprint_of, name_of
from convit.inference.embedder import Embedder
from convit.inference.finding import find_images
from convit.inference.opening import ImageSource
from convit.search.duplicates import DIFFERENCE, SIMILARITY, Duplicate, Picture, find_duplicates
from convit.search.identity import FILE, Identity, read_identity
from convit.search.nearest import (
    NEIGHBOURS,
    build_approximation,
    mapped_vectors,
    read_approximation,
    search_approximately,
    search_exactly,
)
from convit.search.scanning import plan_update, reader_of, split_of
from convit.search.store import TABLE, Store
from convit.search.updating import Update, carry_out

APPROXIMATE_FROM = 200_000
_HIT_COLUMNS = ("path", "label", "width", "height")
_PICTURE_COLUMNS = ("path", "label", "sha256")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hit:
    """One picture that a search found.

    Attributes:
        rank: from 1.
        path: relative to the indexed folder.
        score: cosine similarity to the query, -1 to 1.
        label: the name of the folder that it lies in; None at the top.
        width, height: pixels, upright.
    """

    rank: int
    path: str
    score: float
    label: str | None
    width: int
    height: int


class Index:
    """Embeddings of a folder's pictures in a folder of its own; made by `Index.open`.

    Args:
        db: the index's folder.
        model: a name or a module; None for the one that made the index, or the default.
        weights: a file or folder instead of published weights.
        approximate_from: number of pictures from which searches for up to 10 without a condition are approximate.
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
        self._model, self._weights, self._options = model, weights, options
        if self.identity is not None and (model is not None or weights is not None):
            self._check_model(self.identity)

    @classmethod
    def open(cls, db: str | Path, *, create: bool = False, **options: Any) -> Index:
        """Open an index.

        Args:
            db: its folder.
            create: whether an absent one is made, at its first update.
            **options: as for the class.

        Raises:
            FileNotFoundError: there is none, and `create` is false.
            FileExistsError: the folder holds something else.
            ValueError: as for the class.
        """
        place = Path(db)
        if not (place / FILE).exists():
            if place.is_dir() and any(entry.name != ".lock" for entry in place.iterdir()):
                damaged = f"; its {FILE} is missing" if (place / f"{TABLE}.lance").exists() else ""
                raise FileExistsError(f"{place} holds other files and no index{damaged}; choose another folder")
            if place.exists() and not place.is_dir():
                raise FileExistsError(f"{place} is a file, not an index; choose another name")
            if not create:
                raise FileNotFoundError(f"{place}: there is no index; make one with convit index FOLDER --db {place}")
        return cls(place, **options)

    @property
    def root(self) -> Path:
        """The indexed folder.

        Raises:
            FileNotFoundError: nothing was indexed yet.
        """
        return Path(self._known.root)

    @property
    def model_name(self) -> str:
        """The name of the model that made the index.

        Raises:
            FileNotFoundError: nothing was indexed yet.
        """
        return self._known.name

    def __len__(self) -> int:
        return 0 if self.identity is None else len(self._store)

    @cached_property
    def embedder(self) -> Embedder:
        """The model, loaded when it is first needed.

        Raises:
            ValueError: it is not the one that made the index.
            FileNotFoundError, OSError: the weights cannot be found or fetched.
        """
        model, weights = self._model, self._weights
        options: dict[str, Any] = {key: value for key, value in self._options.items() if value is not None}
        known = self.identity
        options["normalize"] = True
        if known is not None:
            if model is None and weights is None:
                if known.is_of_module:
                    raise ValueError(f"{self.db} was made by a module ({known.name}); hand the same over as model=…")
                model, weights = known.model, known.weights
                self._check_model(known, model, weights)
            options.setdefault("img_size", known.image)
        embedder = Embedder(model, weights=weights, **options)
        settings = embedder.transform.settings
        if known is not None and (settings.height, settings.width) != known.image:
            raise ValueError(
                f"{self.db} was made with images of {known.image[0]} x {known.image[1]} pixels, but img_size is "
                f"{settings.height} x {settings.width}; leave img_size out, or make another index"
            )
        return embedder

    def update(
        self,
        folder: str | Path,
        *,
        commit_every: int = 256,
        expect: Callable[[int], None] | None = None,
        advance: Callable[[], None] | None = None,
    ) -> Update:
        """Bring the index up to date with its folder.

        New and changed pictures are embedded, deleted ones leave. A picture counts as changed where its size or time
        of writing is another than before and its content too. What was embedded is kept every few seconds, so that an
        update that was killed goes on from there.

        Args:
            folder: the folder; after the first time the same one, or wherever it has been moved.
            commit_every: pictures after which the rows are kept, at the latest.
            expect: called once with the number of pictures to embed.
            advance: called after each of them.

        Returns:
            What was done.

        Raises:
            FileNotFoundError, NotADirectoryError: there is no such folder.
            ValueError: it holds no picture, the index belongs to another folder or model, or it is damaged.
            BlockingIOError: another process is updating the index.
            OSError: the index cannot be written.
        """
        root = Path(folder)
        if root.exists() and not root.is_dir():
            raise NotADirectoryError(f"{root} is a file; name the folder of the pictures")
        if commit_every < 1:
            raise ValueError(f"commit_every is {commit_every}, but must be at least 1")
        self._check_root(root)
        if self.identity is None:
            find_images(root)  # a folder without a picture is refused before anything is made
        with self._locked():
            self._keep_identity(root)
            plan = plan_update(root, self._store.files())
            if expect is not None:
                expect(len(plan.embed))
            embed = self.embedder.iterate if plan.embed else lambda _: iter(())
            done = carry_out(plan, root, self._store, embed, commit_every=commit_every, advance=advance)
            if done.new or done.changed or done.removed or plan.touched:
                self._store.tidy()
            if len(self._store) >= self.approximate_from:
                done.approximation = read_approximation(self._store) or build_approximation(self._store)
        return done

    def search(
        self, source: ImageSource | Float32[np.ndarray, " dim"], k: int = 10, *, where: str | None = None
    ) -> list[Hit]:
        """Find the pictures most like one.

        Args:
            source: a picture, as `convit.Embedder` takes it, or a vector of the model (float32, any length but 0).
            k: how many to find.
            where: an SQL condition over path, sha256, size, mtime_ns, width, height and label.

        Returns:
            The pictures, the most similar first; fewer than `k` where there are no more.

        Raises:
            ImageError: the picture cannot be read.
            ValueError: `k` or `where` is not as it must be, the model is another one, or the index is damaged.
            FileNotFoundError: nothing was indexed yet.
        """
        if k < 1:
            raise ValueError(f"k is {k}, but must be at least 1")
        store = self._store
        if where is not None:
            store.check_condition(where)
        is_vector = isinstance(source, np.ndarray) and source.ndim == 1
        vector = self._unit(np.asarray(source)) if is_vector else self.embedder(source)
        # the recall was measured for so many neighbours among all rows
        is_measured = where is None and k <= NEIGHBOURS and len(store) >= self.approximate_from
        how = read_approximation(store) if is_measured else None
        found = search_exactly(store, vector, k, where) if how is None else search_approximately(store, vector, k, how)
        rows = store.take([row for row, _ in found], _HIT_COLUMNS)
        return [
            Hit(rank, score=min(1.0, max(-1.0, score)), **row)
            for rank, (row, (_, score)) in enumerate(zip(rows, found, strict=True), 1)
        ]

    def duplicates(
        self, *, similarity: float = SIMILARITY, difference: float = DIFFERENCE, splits: tuple[str, ...] | None = None
    ) -> list[Duplicate]:
        """Find copies and near-copies among the indexed pictures; see `convit.search.find_duplicates`.

        Raises:
            FileNotFoundError: nothing was indexed yet.
            ValueError: an option is out of range, a split is unknown, or the index is damaged.
        """
        row_ids, vectors = mapped_vectors(self._store)
        rows = {row["_rowid"]: row for row in self._store.read(_PICTURE_COLUMNS, row_ids=True).to_pylist()}
        pictures = [
            Picture(row["path"], row["label"], split_of(row["path"]), row["sha256"], reader_of(self.root / row["path"]))
            for row in (rows[row_id] for row_id in row_ids.tolist())
        ]
        return find_duplicates(pictures, vectors, similarity=similarity, difference=difference, splits=splits)

    @property
    def _known(self) -> Identity:
        if self.identity is None:
            raise FileNotFoundError(f"{self.db}: nothing was indexed yet; run convit index FOLDER --db {self.db} first")
        return self.identity

    @cached_property
    def _store(self) -> Store:
        return Store(self.db, self._known.dim, create=False)

    def _check_model(
        self, known: Identity, model: str | nn.Module | None = None, weights: str | Path | None = None
    ) -> None:
        model, weights = (self._model, self._weights) if model is None and weights is None else (model, weights)
        if fingerprint_of(model, weights) != known.fingerprint:
            raise ValueError(
                f"{self.db} was made by {known.name}, but the model is {name_of(model, weights)}, whose weights are "
                "others; name the model that made it, or make another index"
            )

    def _check_root(self, root: Path) -> None:
        """Refuse another folder; one that was moved is known by its pictures, where the old one is no more."""
        known = self.identity
        if known is None or known.root == str(root.resolve()):
            return
        if not Path(known.root).exists() and any((root / path).exists() for path in self._store.files()):
            return
        raise ValueError(f"{self.db} is the index of {known.root}, not of {root}; name that folder, or another index")

    def _keep_identity(self, root: Path) -> None:
        place = str(root.resolve())
        if self.identity is None:
            embedder = self.embedder
            settings = embedder.transform.settings
            self.identity = Identity(
                root=place,
                name=embedder.name,
                model=self._model if isinstance(self._model, str) else None,
                weights=None if self._weights is None else str(Path(self._weights).expanduser().resolve()),
                fingerprint=fingerprint_of(self._model, self._weights),
                dim=embedder.shape[0],
                image=(settings.height, settings.width),
            )
            self.identity.write(self.db)
        elif self.identity.root != place:
            _log.info("the folder has moved from %s to %s", self.identity.root, place)
            self.identity = replace(self.identity, root=place)
            self.identity.write(self.db)
        if "_store" not in self.__dict__:
            self._store = Store(self.db, self.identity.dim, create=True)

    @contextmanager
    def _locked(self) -> Generator[None]:
        """Keep other processes from updating meanwhile."""
        try:
            self.db.mkdir(parents=True, exist_ok=True)
            with FileLock(self.db / ".lock", timeout=0):
                yield
        except Timeout:
            raise BlockingIOError(f"{self.db}: another process is indexing; wait for it, or end it") from None

    def _unit(self, vector: np.ndarray) -> Float32[np.ndarray, " dim"]:
        if len(vector) != self._known.dim:
            raise ValueError(f"the vector has {len(vector)} values, but {self._known.name} gives {self._known.dim}")
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0:
            raise ValueError("the vector is zero or not finite; give one that the model made")
        return (vector / length).astype(np.float32)
