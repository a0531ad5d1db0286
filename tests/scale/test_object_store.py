"""Jobs that read from and write to an S3 server on this machine."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from PIL import Image

from convit.cli import main
from convit.scale.destination import Destination
from tests.data.making import encoded
from tools.killing import bucket_files, s3_server, set_s3_server

MODEL = ("--model", "convit_nano_patch4_32.cifar10", "--workers", "0")


@pytest.fixture
def bucket() -> Iterator[Any]:
    """An S3 server with the bucket `photos`, open to whoever has the keys in the environment."""
    with s3_server("photos"):
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield bucket_files()
        set_s3_server("reset-auth", b"inf")
        fsspec.get_filesystem_class("s3").clear_instance_cache()


def _png(number: int) -> bytes:
    return encoded(Image.new("RGB", (40, 30 + number), (25 * number, 99, 200)))


def _tar(*numbers: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in numbers:
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(_png(number))
            archive.addfile(member, io.BytesIO(_png(number)))
    return buffer.getvalue()


def _rows(system: Any, folder: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for name in system.ls(folder, detail=False):
        if name.endswith(".parquet") and "manifest" not in name:
            found += pq.read_table(io.BytesIO(system.cat_file(name))).to_pylist()
    named = {row.pop("path"): row for row in found}
    assert len(named) == len(found)
    return named


def test_a_job_from_bucket_to_bucket(bucket: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        bucket.pipe_file(f"photos/loose/{number}.png", _png(number))
    bucket.pipe_file("photos/loose/broken.jpg", b"\xff\xd8\xff")
    bucket.pipe_file("photos/tars/0.tar", _tar(5, 6))
    bucket.pipe_file("photos/tars/1.tar", _tar(7, 8))
    job = ("embed", "s3://photos/loose/", "s3://photos/tars/*.tar", *MODEL, "-o", "s3://photos/vectors/")
    assert main([*job, "--images-per-shard", "4", "--shard", "0/2"]) == 0
    assert main([*job]) == 3
    found = _rows(bucket, "photos/vectors")
    loose = {f"s3://photos/loose/{name}" for name in ("broken.jpg", *(f"{number}.png" for number in range(5)))}
    packed = {f"s3://photos/tars/{number // 7}.tar#{number}.png" for number in range(5, 9)}
    assert found.keys() == loose | packed
    assert [path for path, row in found.items() if row["error"]] == ["s3://photos/loose/broken.jpg"]
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(_png(number))
    assert main(["embed", str(tmp_path), *MODEL, "-o", str(tmp_path / "here.parquet")]) == 0
    for row in pq.read_table(tmp_path / "here.parquet").to_pylist():
        number = int(Path(row["path"]).stem)
        name = f"s3://photos/tars/{number // 7}.tar#{number}.png" if number > 4 else f"s3://photos/loose/{number}.png"
        assert found[name]["embedding"] == pytest.approx(row["embedding"], abs=1e-5)
    written = b"".join(bucket.cat_file(name) for name in bucket.find("photos/vectors"))
    said = capfd.readouterr()
    for hidden in ("secret-of-mine", "AWS"):
        assert hidden.encode() not in written
        assert hidden not in said.out + said.err
    bucket.pipe_file("photos/tars/1.tar", _tar(7, 8, 9))
    assert main([*job, "--update"]) == 0
    assert _rows(bucket, "photos/vectors").keys() == found.keys() | {"s3://photos/tars/1.tar#9.png"}


def test_any_name_is_read_and_a_jobs_own_results_are_not(bucket: Any) -> None:
    names = ["what? #1.png", "[1].png", "100%.png", "ä.png", "a*b.png"]
    for number, name in enumerate(names):
        bucket.pipe_file(f"photos/{name}", _png(number))
    job = ("embed", "s3://photos/", *MODEL, "-o", "s3://photos/vectors/", "--images-per-shard", "1")
    assert main([*job]) == 0
    found = _rows(bucket, "photos/vectors")
    assert found.keys() == {f"s3://photos/{name}" for name in names}
    assert not any(row["error"] for row in found.values())
    assert main([*job, "--update"]) == 0
    assert _rows(bucket, "photos/vectors") == found


def test_lists_in_a_store_and_of_one(bucket: Any, tmp_path: Path) -> None:
    for number in range(3):
        bucket.pipe_file(f"photos/in/{number}.png", _png(number))
    bucket.pipe_file("photos/in/0.tar", _tar(3, 4))
    bucket.pipe_file("photos/list.csv", b"image,label\nin/0.png,a\nin/1.png,b\n")
    (tmp_path / "list.txt").write_text("s3://photos/in/2.png\ns3://photos/in/0.tar")
    for source, names in (
        ("s3://photos/list.csv", ("0.png", "1.png")),
        (f"{tmp_path}/list.txt", ("0.tar#3.png", "0.tar#4.png", "2.png")),
    ):
        assert main(["embed", source, *MODEL, "-o", f"s3://photos/{len(names)}/"]) == 0
        found = _rows(bucket, f"photos/{len(names)}")
        assert found.keys() == {f"s3://photos/in/{name}" for name in names}
        assert not any(row["error"] for row in found.values())


def test_of_many_tasks_that_create_an_object_one_does(bucket: Any) -> None:
    destination = Destination("s3://photos/out/")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: destination.create("x", bytes([number])), range(8)))
    assert sum(made) == 1
    assert destination.read("x") == bytes([made.index(True)])
    assert destination.names() == {"x"}
    destination.remove("x")
    destination.remove("x")
    assert destination.read("x") is None
    assert bucket.ls("photos") == []


@pytest.mark.parametrize(
    ("source", "output"), [("s3://nowhere/*.tar", "s3://photos/out/"), ("s3://photos/0.tar", "s3://nowhere/out/")]
)
def test_a_bucket_that_there_is_not(source: str, output: str, bucket: Any, capfd: pytest.CaptureFixture[str]) -> None:
    bucket.pipe_file("photos/0.tar", _tar(0))
    assert main(["embed", source, *MODEL, "-o", output]) in (1, 2)
    lines = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert "s3://nowhere" in lines[0]


@pytest.fixture
def allowed(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], tuple[str, str]]:
    """Gives the user that runs the commands a few rights, in place of all, and tells the user's keys."""
    import boto3

    def allow(rights: dict[str, str]) -> tuple[str, str]:
        set_s3_server("reset-auth", b"inf")
        users = boto3.client("iam", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
        name = f"user-{len(users.list_users()['Users'])}"
        users.create_user(UserName=name)
        statements = [
            {"Effect": "Allow", "Action": f"s3:{action}", "Resource": place} for action, place in rights.items()
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        users.put_user_policy(UserName=name, PolicyName="rights", PolicyDocument=policy)
        key = users.create_access_key(UserName=name)["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        type(bucket).clear_instance_cache()
        set_s3_server("reset-auth", b"0")
        return key["AccessKeyId"], key["SecretAccessKey"]

    return allow


READ = {"GetObject": "*", "HeadObject": "*", "ListBucket": "*"}
ALL_OF_VECTORS = {"*": "arn:aws:s3:::vectors*"}


def test_whoever_may_write_need_not_remove(bucket: Any, allowed: Callable[[dict[str, str]], tuple[str, str]]) -> None:
    bucket.pipe_file("photos/in/0.tar", _tar(0))
    bucket.pipe_file("photos/in/1.tar", _tar(1))
    allowed({**READ, "PutObject": "arn:aws:s3:::photos/out/*"})
    assert main(["embed", "s3://photos/in/", *MODEL, "-o", "s3://photos/out/"]) == 0


@pytest.mark.parametrize(
    ("rights", "code", "refused"),
    [
        (ALL_OF_VECTORS, 1, "s3://photos/in/ is refused"),
        (READ, 1, "s3://vectors/out/_manifest.parquet is refused"),
        ({**ALL_OF_VECTORS, "ListBucket": "*"}, 3, "s3://photos/in/0.tar is refused"),
    ],
)
def test_a_bucket_without_permission(
    rights: dict[str, str],
    code: int,
    refused: str,
    bucket: Any,
    allowed: Callable[[dict[str, str]], tuple[str, str]],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "convit")
    bucket.pipe_file("photos/in/0.tar", _tar(0))
    bucket.mkdir("vectors")
    keys = allowed(rights)
    assert main(["embed", "s3://photos/in/", *MODEL, "-o", "s3://vectors/out/"]) == code
    said = capfd.readouterr()
    (line,) = [line for line in said.err.splitlines() if "refused" in line]
    assert refused in line
    assert "check the address and" in line
    set_s3_server("reset-auth", b"inf")
    bucket.invalidate_cache()
    written = b"".join(bucket.cat_file(name) for name in bucket.find("vectors"))
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("convit")]
    for key in keys:
        assert key not in "\n".join([said.out, said.err, *logged])
        assert key.encode() not in written
    assert (b"is refused" in written) == (code == 3)


def test_no_credentials_at_all(bucket: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    type(bucket).clear_instance_cache()
    assert main(["embed", "s3://photos/in/", *MODEL, "-o", "s3://photos/out/"]) == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert "s3://photos/out/_manifest.parquet is refused (Unable to locate credentials); check" in line
