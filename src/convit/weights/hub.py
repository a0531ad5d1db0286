"""Weight files of Hugging Face hub repositories, through the hub's own client."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from convit.output.files import explained, hash_file
from convit.output.text import first_line
from convit.weights.download import MOST_BYTES, Meter
from convit.weights.progress import progress_shown
from convit.weights.reach import why_unreachable

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # the first one is not a pickle, so it comes first
_CLIENT_PACKAGES = {"huggingface_hub", "httpx", "httpx2", "requests", "urllib3", "hf_xet"}
_MOST_NOTES = 2**24  # bytes of what is read beside weights, a `config.json`
_CHUNK = 1 << 15  # bytes: less than the least rate brings until a stall is noticed
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Repo(NamedTuple):
    """A hub repository at a revision (a branch, a tag or a commit)."""

    name: str
    revision: str = "main"


def parse_repo(text: str) -> Repo:
    """Read "owner/name" or "owner/name@revision"; raises `ValueError` for anything else.

    >>> parse_repo("timm/convit_tiny.fb_in1k")
    Repo(name='timm/convit_tiny.fb_in1k', revision='main')
    """
    name, _, revision = text.partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ValueError(f"{text!r} is not a hub repository; write hf-hub:owner/name or hf-hub:owner/name@revision")
    return Repo(name, revision or "main")


def endpoint() -> str:
    """Return the address of the hub: `HF_ENDPOINT` where set (a mirror), else the public one."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def is_offline() -> bool:
    """Return whether `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) forbids any request."""
    from huggingface_hub import constants

    asked = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return constants.HF_HUB_OFFLINE or asked.upper() in constants.ENV_VARS_TRUE_VALUES


def cache_folder(cache_dir: Path | None = None) -> Path:
    """Return the folder of the hub's cache: `cache_dir`, else `HF_HUB_CACHE`, else the one in `HF_HOME`."""
    from huggingface_hub import constants

    return Path(cache_dir or os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE).expanduser()


def cached_file(repo: Repo, names: Sequence[str], cache_dir: Path | None = None) -> Path | None:
    """Return the first of `names` that the cache holds for the repository, or None; never uses the network."""
    from huggingface_hub import try_to_load_from_cache

    folder = cache_folder(cache_dir)
    for name in names:
        found = try_to_load_from_cache(repo.name, name, cache_dir=folder, revision=repo.revision)
        if isinstance(found, str):
            return Path(found)
    return None


def download(repo: Repo, names: Sequence[str], cache_dir: Path | None = None, most: int = MOST_BYTES) -> Path:
    """Fetch the first of `names` that the repository has into the cache.

    The client writes under a temporary name, takes up a broken transfer where it stopped (within one call: of a failed
    one it keeps nothing), and renames the complete file, which is checked here against the hash that the hub states.

    Raises:
        ConnectionError: the hub cannot be reached, does not deliver, hardly sends anything, or delivers something else
            than it announced, or more than `most` bytes.
        LookupError: there is no such repository or revision, it is not public, or it has none of the files.
        PermissionError: the cache cannot be written.
        OSError: the disk is full.
    """
    if (reason := why_unreachable(f"{endpoint()}/{repo.name}/resolve/{repo.revision}/{names[0]}")) is not None:
        raise ConnectionError(f"cannot reach {endpoint()} ({reason})")
    folder = cache_folder(cache_dir)
    with explained(folder, "set HF_HOME to a folder elsewhere"):
        for name in names:
            path = _download(repo, name, folder, most)
            if path is not None:
                _check_hash(path)
                return path
    raise LookupError(f"the hub repository {repo.name} ({repo.revision}) has none of {', '.join(names)}")


def _download(repo: Repo, name: str, folder: Path, most: int) -> Path | None:
    """Fetch one file; None if the repository does not have it."""
    from huggingface_hub import errors, hf_hub_download

    try:
        place = {"revision": repo.revision, "cache_dir": folder, "endpoint": endpoint()}
        meter = Meter(most if name in WEIGHT_FILES else _MOST_NOTES)
        fetch = partial(hf_hub_download, repo.name, name, **place, tqdm_class=_metered(meter))
        path = _watched(fetch, meter)
    except errors.LocalEntryNotFoundError as error:  # before its base class: the hub did not answer after all
        raise ConnectionError(f"{endpoint()} does not answer ({first_line(error.__cause__ or error)})") from error
    except errors.EntryNotFoundError:
        return None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise LookupError(f"{endpoint()} has no public repository {repo.name} ({repo.revision})") from error
    except Exception as error:
        # The transport's errors have no common base and change with the client's version; a full disk passes.
        is_transport = type(error).__module__.partition(".")[0] in _CLIENT_PACKAGES or isinstance(error, OSError)
        if not is_transport or getattr(error, "errno", None) is not None or "os error" in str(error):
            raise
        raise ConnectionError(f"{endpoint()} does not deliver {repo.name}/{name} ({first_line(error)})") from error
    return Path(path)


def _check_hash(path: Path) -> None:
    """Compare a fresh file with the hash that the hub announced, which names the file in the cache where it is one."""
    blob = path.parent / path.readlink() if path.is_symlink() else path
    if not _SHA256.fullmatch(blob.name):
        return
    digest = hash_file(path)
    if digest != blob.name:
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise ConnectionError(f"{path.name} arrived damaged (sha256 {digest}, announced {blob.name}); fetch it again")


def _metered(meter: Meter) -> Any:
    """The client's bar, shown where ours are, which tells a meter of every chunk; what the meter raises ends it."""
    from huggingface_hub.utils import tqdm

    class Metered(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": not progress_shown()})
            meter.expect(options.get("total") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            meter.add(int(n or 0))
            return super().update(n)

    return Metered


def _watched(fetch: Callable[[], str], meter: Meter) -> str:
    """Call the client in a thread, since nothing else can end its wait for a chunk that hardly arrives."""
    from huggingface_hub import constants

    result: Future[str] = Future()

    def call() -> None:
        try:
            result.set_result(fetch())
        except BaseException as error:
            result.set_exception(error)

    size, constants.DOWNLOAD_CHUNK_SIZE = constants.DOWNLOAD_CHUNK_SIZE, min(constants.DOWNLOAD_CHUNK_SIZE, _CHUNK)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Not enough free disk space")  # an error will say it better
            Thread(target=call, daemon=True).start()
            while not wait([result], timeout=0.2).done:
                meter.check()
    finally:
        constants.DOWNLOAD_CHUNK_SIZE = size
    return result.result()
