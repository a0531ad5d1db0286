"""Results in every kind, read back by the tools that people use."""

import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from convit.output import FORMATS, binary, choose_format, open_writer
from convit.output.rows import Classification, Embedding, Prediction

LABELS = [
    Classification("a [red].jpg", (Prediction("tabby, tabby cat", 281, 0.75), Prediction('say "cheese"', 2, 0.125))),
    Classification("ü\\n.jpg", (), "ü\\n.jpg: is empty (0 bytes); fetch or export it again"),
    Classification("=b.jpg", (Prediction("cat", 3, float(np.float32(0.1))),)),
]
NUMBERS = np.random.default_rng(0)
VECTORS = [
    Embedding("missing.jpg", None, "missing.jpg: no such file; check the path"),
    *(Embedding(f"{name}.jpg", NUMBERS.normal(size=6).astype(np.float32)) for name in "abc"),
    Embedding("d.jpg", None, "d.jpg: is empty (0 bytes); fetch or export it again"),
]


def tokens() -> list[Embedding]:
    values = [Embedding(f"{name}.jpg", NUMBERS.normal(size=(5, 6)).astype(np.float32)) for name in "ab"]
    return [values[0], Embedding("missing.jpg", None, "gone"), values[1]]


def write(path: Path, results: Iterable[Classification | Embedding], **options: object) -> Path:
    results = list(results)
    rows = "classification" if isinstance(results[0], Classification) else "embedding"
    chosen = choose_format(path, None, rows)
    with open_writer(path, chosen, rows, **options) as writer:
        for result in results:
            writer.write(result)
    assert writer.written == len(results)
    assert writer.failed == sum(result.error is not None for result in results)
    assert list(path.parent.iterdir()) == [path]
    return path


def as_text(results: Iterable[Classification | Embedding], kind: str, **options: object) -> str:
    results, stream = list(results), io.StringIO()
    rows = "classification" if isinstance(results[0], Classification) else "embedding"
    with open_writer(None, kind, rows, stream=stream, **options) as writer:
        for result in results:
            writer.write(result)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_labels_as_json(tmp_path: Path, kind: str) -> None:
    text = write(tmp_path / f"labels.{kind}", LABELS).read_text(encoding="utf-8")
    rows = json.loads(text) if kind == "json" else [json.loads(line) for line in text.splitlines()]
    assert [list(row) for row in rows] == [["path", "predictions", "error"]] * 3
    assert [row["path"] for row in rows] == [result.path for result in LABELS]
    assert [row["error"] for row in rows] == [result.error for result in LABELS]
    assert rows[0]["predictions"] == [
        {"label": "tabby, tabby cat", "index": 281, "score": 0.75},
        {"label": 'say "cheese"', "index": 2, "score": 0.125},
    ]
    assert rows[1]["predictions"] == []
    assert '"score": 0.1}' in text
    assert as_text(LABELS, kind) == text


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_vectors_as_json(kind: str) -> None:
    for results in (VECTORS, tokens()):
        text = as_text(results, kind)
        rows = json.loads(text) if kind == "json" else [json.loads(line) for line in text.splitlines()]
        for row, result in zip(rows, results, strict=True):
            assert list(row) == ["path", "embedding", "error"]
            if result.values is None:
                assert row["embedding"] is None
            else:
                assert np.array_equal(np.array(row["embedding"], dtype=np.float32), result.values)


def test_no_rows(tmp_path: Path) -> None:
    for kind in ("json", "jsonl", "csv", "parquet", "txt"):
        path = tmp_path / f"none.{kind}"
        with open_writer(path, choose_format(path, None, "classification"), "classification"):
            pass
    assert json.loads((tmp_path / "none.json").read_text()) == []
    assert (tmp_path / "none.jsonl").read_text() == ""
    assert len((tmp_path / "none.csv").read_text().splitlines()) == 1
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
    with open_writer(tmp_path / "none.npz", "npz", "embedding", shape=(3,)):
        pass
    assert np.load(tmp_path / "none.npz")["embeddings"].shape == (0, 3)


def test_labels_as_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", LABELS, top_k=2)
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["path", "label_1", "index_1", "score_1", "label_2", "index_2", "score_2", "error"]
    assert rows == [
        ["a [red].jpg", "tabby, tabby cat", "281", "0.75", 'say "cheese"', "2", "0.125", ""],
        ["ü\\n.jpg", *[""] * 6, LABELS[1].error],
        ["=b.jpg", "cat", "3", "0.1", "", "", "", ""],
    ]


def test_vectors_as_csv(tmp_path: Path) -> None:
    path = write(tmp_path / "vectors.csv", VECTORS, shape=(6,))
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["path", *(f"value_{index}" for index in range(6)), "error"]
    assert [row[0] for row in rows] == [result.path for result in VECTORS]
    assert np.array_equal(np.array(rows[1][1:7], dtype=np.float32), VECTORS[1].values)
    assert rows[0][1:] == [""] * 6 + [VECTORS[0].error]


def test_labels_as_parquet(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path / "labels.parquet", LABELS, top_k=2, about={"model": "convit_base"}))
    assert table.column_names == ["path", "label_1", "index_1", "score_1", "label_2", "index_2", "score_2", "error"]
    assert [str(kind) for kind in table.schema.types[:4]] == ["string", "string", "int32", "float"]
    assert table["path"].to_pylist() == [result.path for result in LABELS]
    assert table["label_1"].to_pylist() == ["tabby, tabby cat", None, "cat"]
    assert table["score_2"].to_pylist() == [0.125, None, None]
    assert table["error"].to_pylist() == [None, LABELS[1].error, None]
    assert json.loads(table.schema.metadata[b"convit"]) == {"model": "convit_base"}


@pytest.mark.parametrize("group", [1, 2, 1024])
def test_vectors_as_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.setattr(binary, "_GROUP_ROWS", group)
    table = pq.read_table(write(tmp_path / "vectors.parquet", VECTORS, shape=(6,)))
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[6]"
    assert table["path"].to_pylist() == [result.path for result in VECTORS]
    assert table["error"].to_pylist() == [result.error for result in VECTORS]
    for value, result in zip(table["embedding"].to_pylist(), VECTORS, strict=True):
        assert (value is None) == (result.values is None)
        assert value is None or np.array_equal(np.array(value, dtype=np.float32), result.values)


def test_tokens_as_parquet(tmp_path: Path) -> None:
    results = tokens()
    table = pq.read_table(write(tmp_path / "tokens.parquet", results, shape=(5, 6)))
    values = table["embedding"].to_pylist()
    assert values[1] is None
    assert np.array_equal(np.array(values[2], dtype=np.float32), results[2].values)
    assert np.array(values[0]).shape == (5, 6)


def test_vectors_as_npz(tmp_path: Path) -> None:
    path = write(tmp_path / "vectors.npz", VECTORS, shape=(6,), about={"kind": "pooled"})
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive) == ["about", "embeddings", "errors", "paths"]
        assert archive["paths"].tolist() == [result.path for result in VECTORS]
        assert archive["errors"].tolist() == [result.error or "" for result in VECTORS]
        assert json.loads(str(archive["about"])) == {"kind": "pooled"}
        values = archive["embeddings"]
    assert values.dtype == np.float32
    assert values.shape == (5, 6)
    assert np.isnan(values).all(axis=1).tolist() == [True, False, False, False, True]
    assert np.array_equal(values[2], VECTORS[2].values)


def test_tokens_as_npz(tmp_path: Path) -> None:
    results = tokens()
    values = np.load(write(tmp_path / "tokens.npz", results, shape=(5, 6)))["embeddings"]
    assert values.shape == (3, 5, 6)
    assert np.array_equal(values[2], results[2].values)
    assert np.isnan(values[1]).all()


def test_table_of_labels(tmp_path: Path) -> None:
    text = as_text(LABELS, "table")
    lines = [line.split() for line in text.splitlines()]
    assert ["image", "score", "label"] in lines
    assert ["a", "[red].jpg", "75.0", "%", "tabby,", "tabby", "cat"] in lines
    assert ["12.5", "%", "say", '"cheese"'] in lines
    assert "error: is empty (0 bytes); fetch or export it again" in text
    assert "\x1b" not in text
    long = Classification("x" * 300 + ".jpg", (Prediction("y" * 300, 0, 1.0),))
    assert long.path in as_text([long], "table")
    assert write(tmp_path / "labels.txt", LABELS).read_text(encoding="utf-8") == text


def test_table_of_vectors() -> None:
    text = as_text([*VECTORS[:2], *tokens()], "table")
    assert "error: no such file; check the path" in text
    assert f"{VECTORS[1].values[0]:.4f}" in text
    assert "5 x 6" in text


def test_choice_of_format(monkeypatch: pytest.MonkeyPatch) -> None:
    for output, kind, to_terminal, expected in [
        (None, None, True, "table"),
        (None, None, False, "jsonl"),
        (None, "csv", True, "csv"),
        (Path("a.JSON"), None, True, "json"),
        (Path("a.parquet"), None, False, "parquet"),
        (Path("a.txt"), None, False, "table"),
        (Path("a.dat"), "npz", False, "npz"),
    ]:
        monkeypatch.setattr("convit.output.files.is_terminal", lambda _, found=to_terminal: found)
        assert choose_format(output, kind, "embedding") == expected
    assert set(FORMATS) == {"table", "json", "jsonl", "csv", "parquet", "npz", "markdown"}


@pytest.mark.parametrize(
    ("output", "kind", "rows", "message"),
    [
        (
            "a.xlsx",
            None,
            "embedding",
            "a.xlsx: the suffix '.xlsx' does not select a format here; use one",
        ),
        ("a", None, "embedding", "a: a name without a suffix does not select a format"),
        ("a.json", "yaml", "embedding", "format is 'yaml', but must be one of table, json, jsonl, csv, parquet, npz"),
        (
            "a.npz",
            None,
            "classification",
            "'.npz' does not select a format here; use one of .txt, .json",
        ),
        (None, "parquet", "classification", "parquet is not text and needs a file"),
        (None, "npz", "embedding", "npz is not text and needs a file"),
    ],
)
def test_wrong_formats(output: str | None, kind: str | None, rows: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        choose_format(None if output is None else Path(output), kind, rows)


def test_formats_that_need_a_shape(tmp_path: Path) -> None:
    for kind in ("csv", "parquet", "npz"):
        with pytest.raises(ValueError, match=f"{kind} needs the shape of one embedding"):
            open_writer(tmp_path / f"a.{kind}", kind, "embedding")
    with pytest.raises(ValueError, match="csv holds one vector per image, but these are 5 x 6"):
        open_writer(tmp_path / "a.csv", "csv", "embedding", shape=(5, 6))
    with pytest.raises(ValueError, match="format is 'yaml'"):
        open_writer(tmp_path / "a.yaml", "yaml", "embedding")
    assert list(tmp_path.iterdir()) == []


STRANGE = (
    "a\nb.jpg",
    "a\\nb.jpg",
    "cr\rlf.jpg",
    "esc\x1b[31m.jpg",
    "bidi\u202egpj.jpg",
    'quote",.jpg',
    "del\x7f\x9b.jpg",
)


def test_strange_names_come_back_from_every_machine_format(tmp_path: Path) -> None:
    rows = [Classification(name, (Prediction("cat\u202e", 1, 0.5),)) for name in STRANGE]
    for kind in ("json", "jsonl"):
        text = as_text(rows, kind)
        found = json.loads(text) if kind == "json" else [json.loads(line) for line in text.splitlines()]
        assert [row["path"] for row in found] == list(STRANGE)
        assert text.replace("\n", "").isprintable(), "nothing in it drives a terminal"
    with write(tmp_path / "x.csv", rows, top_k=1).open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["path"], row["label_1"]) for row in found] == [(name, "cat\u202e") for name in STRANGE]
    (tmp_path / "x.csv").unlink()
    assert pq.read_table(write(tmp_path / "x.parquet", rows, top_k=1)).column("path").to_pylist() == list(STRANGE)
    (tmp_path / "x.parquet").unlink()
    vectors = [Embedding(name, np.zeros(2, np.float32)) for name in STRANGE]
    with np.load(write(tmp_path / "x.npz", vectors, shape=(2,))) as archive:
        assert archive["paths"].tolist() == list(STRANGE)


def test_tables_print_nothing_that_drives_a_terminal() -> None:
    rows = [Classification(name, (Prediction("cat\x1b[2J\u2067", 1, 0.5),), None) for name in STRANGE]
    rows.append(Classification("a\nb.jpg", (), "a\\nb.jpg: is \x1b[2J empty"))
    vectors = [Embedding(row.path, np.zeros(2, np.float32)) for row in rows]
    for text in (as_text(rows, "table"), as_text(vectors, "table")):
        assert text.replace("\n", "").isprintable()
        assert "a\\nb.jpg" in text
    plain = io.StringIO()
    for kind in ("table", "markdown"):
        with open_writer(None, kind, "rows", columns=["path"], stream=plain, head="# of \x1b[2Jx\u202e") as writer:
            for name in STRANGE:
                writer.write({"path": name})
    assert plain.getvalue().replace("\n", "").isprintable()


def test_csv_does_not_drive_a_terminal() -> None:
    class Terminal(io.StringIO):
        isatty = staticmethod(lambda: True)

    text = Terminal()
    with open_writer(None, "csv", "rows", columns=["path"], stream=text) as writer:
        for name in STRANGE:
            writer.write({"path": name})
    assert text.getvalue().replace("\n", "").isprintable()


def test_spreadsheets_compute_nothing_when_asked() -> None:
    rows = [Classification(name, (), "-1: is empty") for name in ("=1+1.jpg", "+a", "-b", "@c", "\td", "\re", "f=1")]
    plain, safe = (as_text(rows, "csv", top_k=1, spreadsheet_safe=each) for each in (False, True))
    found = [list(csv.reader(io.StringIO(text, newline="")))[1:] for text in (plain, safe)]
    assert [row[0] for row in found[0]] == [row.path for row in rows]
    assert [row[0] for row in found[1]] == [*(f"'{row.path}" for row in rows[:-1]), "f=1"]
    assert {row[-1] for row in found[1]} == {"'-1: is empty"}
