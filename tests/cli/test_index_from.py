"""`convit index --from`: the vectors of a job become an index, once each, without the images."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convit.scale import read_vectors
from convit.search import Index
from tests.cli.conftest import Run

QUICK = ("--model", "convit_nano_patch4_32.cifar10", "--workers", "0")
Convit = Callable[..., Run]


@pytest.fixture
def pictures(photos: Path, tmp_path: Path) -> Path:
    """The photographs, and a file that is none."""
    folder = Path(shutil.copytree(photos, tmp_path / "pictures"))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture
def job(convit: Convit, pictures: Path, tmp_path: Path) -> tuple[object, ...]:
    """The command of a job of three shards, done."""
    command = ("embed", pictures, *QUICK, "-o", f"{tmp_path}/vectors/", "--images-per-shard", 2)
    assert convit(*command).code == 3
    return command


@pytest.mark.usefixtures("job")
def test_hits_are_those_of_an_index_of_the_folder(convit: Convit, pictures: Path, tmp_path: Path) -> None:
    made = convit("index", "--from", tmp_path / "vectors", "--db", tmp_path / "db")
    counts = {"shards": 3, "before": 0, "absent": 0, "removed": 0, "unreadable": 1}
    assert (made.code, made.rows) == (3, [{"db": str(tmp_path / "db"), "images": 4, "new": 4, **counts}])
    assert "1 image skipped" in made.err
    assert "broken.jpg" in made.err
    assert convit("index", pictures, "--db", tmp_path / "usual", *QUICK).code == 3
    query = ("search", pictures / "cat.jpg", "-k", 4, "--db")
    found, usual = (convit(*query, tmp_path / db).rows for db in ("db", "usual"))
    assert [row["path"] for row in found] == [str(pictures / row["path"]) for row in usual]
    np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in usual], atol=1e-5)
    assert {(row["label"], row["width"], row["height"]) for row in found} == {(None, None, None)}
    assert convit(*query, tmp_path / "db", "--html", tmp_path / "found.html").code == 0
    assert (tmp_path / "found.html").read_text().count("data:image/jpeg") == 5
    duplicates = convit("duplicates", "--db", tmp_path / "db")
    duplicates.fails("without hashes of images; name their folder instead")


def test_only_shards_that_are_not_in_are_read(
    convit: Convit, job: tuple[object, ...], pictures: Path, tmp_path: Path
) -> None:
    index = ("index", "--from", tmp_path / "vectors", "--db", tmp_path / "db")
    first = min((tmp_path / "vectors").glob("0*"))
    first.rename(tmp_path / "kept")
    some = convit(*index)
    assert (some.rows[0]["shards"], some.rows[0]["absent"]) == (2, 1)
    assert "shards without results so far: 1" in some.err
    (tmp_path / "kept").rename(first)
    rest = convit(*index)
    assert (rest.rows[0]["shards"], rest.rows[0]["before"], rest.rows[0]["images"]) == (1, 2, 4)
    again = convit(*index)
    assert (again.code, again.rows[0]["shards"], again.rows[0]["before"], again.rows[0]["new"]) == (0, 0, 3, 0)
    (pictures / "broken.jpg").unlink()
    shutil.copy(pictures / "cat.jpg", pictures / "new cat.jpg")
    assert convit(*job, "--update").code == 0
    updated = convit(*index)
    assert (updated.code, updated.rows[0]["images"], updated.rows[0]["unreadable"]) == (0, 5, 0)
    assert updated.rows[0]["new"] - updated.rows[0]["removed"] == 1
    paths = Index.open(tmp_path / "db")._store.read(["path"]).column("path").to_pylist()
    assert sorted(paths) == sorted(
        str(file) for file in pictures.rglob("*") if file.is_file() and file.suffix != ".txt"
    )


@pytest.mark.usefixtures("job")
def test_vectors_stay_in_the_precision_that_they_have(convit: Convit, pictures: Path, tmp_path: Path) -> None:
    half = Path(shutil.copytree(tmp_path / "vectors", tmp_path / "half"))
    for file in half.glob("0*"):
        table = pq.read_table(file)
        at = table.schema.get_field_index("embedding")
        column = table.column(at).cast(pa.list_(pa.float16(), table.schema.field(at).type.list_size))
        pq.write_table(table.set_column(at, "embedding", column), file)
    found: list[dict[str, float]] = []
    for name, kind in (("vectors", pa.float32()), ("half", pa.float16())):
        db = tmp_path / f"{name}.db"
        assert convit("index", "--from", tmp_path / name, "--db", db).code == 3
        assert Index.open(db)._store.schema.field("vector").type.value_type == kind
        rows = convit("search", pictures / "cat.jpg", "-k", 4, "--db", db, "--approximate-from", 5).rows
        found.append({row["path"]: row["score"] for row in rows})
    assert found[1] == pytest.approx(found[0], abs=1e-3)
    Index.open(tmp_path / "half.db", approximate_from=1).add_vectors(read_vectors(str(half)))  # builds the vector index
    near = convit("search", pictures / "cat.jpg", "-k", 4, "--db", tmp_path / "half.db", "--approximate-from", 1).rows
    assert {row["path"]: row["score"] for row in near} == pytest.approx(found[1], abs=1e-3)


@pytest.mark.usefixtures("job")
def test_an_end_in_between_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.search.vectors._COMMIT_ROWS", 1)
    steps = iter([None, KeyboardInterrupt()])

    def advance() -> None:
        if (error := next(steps)) is not None:
            raise error

    vectors = read_vectors(str(tmp_path / "vectors"))
    with pytest.raises(KeyboardInterrupt) as caught:
        Index.open(tmp_path / "db", create=True).add_vectors(vectors, advance=advance)
    assert "what was added is kept" in caught.value.__notes__[0]
    done = Index.open(tmp_path / "db").add_vectors(vectors)
    assert (done.before, done.shards, len(Index.open(tmp_path / "db"))) == (2, 1, 4)


@pytest.mark.usefixtures("job")
def test_vectors_that_do_not_fit_are_refused(convit: Convit, pictures: Path, tmp_path: Path, nano: Path) -> None:
    vectors, index = tmp_path / "vectors", ("index", "--db", tmp_path / "db", "--from")
    assert convit(*index, vectors).code == 3
    for name, command in {
        "tokens": ("embed", *QUICK, "--kind", "tokens"),
        "labels": ("classify", *QUICK),
        "other": ("embed", "--weights", nano, "--workers", "0"),
        "wide": ("embed", *QUICK, "--img-size", 48),
    }.items():
        assert convit(*command, pictures, "-o", f"{tmp_path}/{name}/").code == 3
    assert convit("index", pictures, "--db", tmp_path / "usual", *QUICK).code == 3
    for name, rows in {"damaged": None, "foreign": {"path": ["a"], "embedding": [[1.0]], "error": [""]}}.items():
        shutil.copytree(vectors, tmp_path / name)
        first = min((tmp_path / name).glob("0*"))
        first.write_bytes(b"PAR1") if rows is None else pq.write_table(pa.table(rows), first)
    for command, message in (
        ((*index, tmp_path / "tokens"), "holds embeddings of kind tokens; an index takes one vector per image"),
        ((*index, tmp_path / "labels"), "holds classifications; an index takes one vector per image"),
        ((*index, tmp_path / "other"), "was made by convit_nano_patch4_32.cifar10 with sha256:"),
        ((*index, tmp_path / "wide"), "with image [48, 48], but"),
        ((*index, tmp_path / "nowhere"), "holds no results of a job; name the --output of convit embed"),
        (("index", pictures, "--db", tmp_path / "db", *QUICK), "was made from the vectors in"),
        ((*index, vectors, pictures), "one of the two"),
        (("index", "--db", tmp_path / "db"), "one of the two"),
        ((*index, vectors, "--batch-size", 2), "have no effect with --from"),
        ((*index, vectors, "--commit-every", 2), "have no effect with --from"),
        (("index", "--from", vectors, "--db", tmp_path / "usual"), "whose images it embeds itself"),
        (("index", "--from", vectors, "--db", "s3://bucket/db"), "is a URL, but an index is a folder on this machine"),
        (("index", "--from", tmp_path / "other", "--db", tmp_path / "new"), "name its weights with --weights"),
        (("index", "--from", tmp_path / "damaged", "--db", tmp_path / "new1"), "is damaged ("),
        (("index", "--from", tmp_path / "foreign", "--db", tmp_path / "new2"), "was not written by the job"),
    ):
        refused = convit(*command)
        lines = [line for line in refused.err.splitlines() if "error" in line]
        assert (refused.code, len(lines)) == (2, 1), refused.err
        assert message in lines[0]
    named = convit("index", "--from", tmp_path / "other", "--db", tmp_path / "named", "--weights", nano)
    assert (named.code, named.rows[0]["images"]) == (3, 4)
    assert convit("search", pictures / "cat.jpg", "--db", tmp_path / "named").rows[0]["score"] == pytest.approx(1)
