"""Bring the file of a weight set: from the package, the caches, the hub or the authors' own server, in this order."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from convit.weights import hub
from convit.weights.download import cached_url, default_folder, fetch_url, is_kept
from convit.weights.hub import WEIGHT_FILES, Repo
from convit.weights.reach import why_unreachable
from convit.weights.weight_sets import BUNDLED_NAMES, WeightSet

_log = logging.getLogger(__name__)


def fetch_weights(weight_set: WeightSet, cache_dir: Path | None = None) -> Path:
    """Return the file of a weight set, fetching it once where it does not ship in the package.

    A file in the cache is used without asking anybody whether there is a newer one. Otherwise the hub is asked
    (`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE` and the hub's other settings hold), and where that fails the authors'
    server. Reachability is tested first, so that a missing network is said within seconds.

    Args:
        weight_set: what to fetch.
        cache_dir: where to keep it; None for the hub's cache, or for `default_folder()` where the authors' server
            delivers.

    Raises:
        ConnectionError: no source delivers; the message says why and what can be done without a network.
        FileNotFoundError: a bundled file is missing.
        PermissionError: the cache cannot be written.
        OSError: the disk is full, or a file has another hash than it must have.
    """
    cached = cached_weights(weight_set, cache_dir)
    if cached is not None:
        return cached
    if weight_set.source == "bundled":
        raise FileNotFoundError(
            f"the bundled weights {weight_set.name} are missing from this installation; install convit again"
        )
    _check_online(weight_set.name)
    failures: list[str] = []
    if weight_set.hub_repo is not None:
        try:
            return hub.download(Repo(weight_set.hub_repo), WEIGHT_FILES, cache_dir, weight_set.max_bytes)
        except (ConnectionError, LookupError) as error:
            failures.append(str(error))
    if weight_set.url is not None:
        if failures:
            _log.info("%s; trying %s", failures[-1], weight_set.url)
        folder = cache_dir or default_folder()
        try:
            return fetch_url(weight_set.url, folder, weight_set.sha256, weight_set.max_bytes)
        except ConnectionError as error:
            failures.append(str(error))
    raise ConnectionError(f"cannot fetch {weight_set.name}: {'; '.join(failures) or 'it has no source'}; {_remedy()}")


def fetch_hub_file(repo: Repo, names: tuple[str, ...] = WEIGHT_FILES, cache_dir: Path | None = None) -> Path:
    """Return the first of `names` that a hub repository has, from the cache (None: the hub's own) or the hub.

    Raises the errors of `fetch_weights`, and `ValueError` if there is no such public repository or it has none of them.
    """
    cached = hub.cached_file(repo, names, cache_dir)
    if cached is not None:
        return cached
    _check_online(repo.name)
    try:
        return hub.download(repo, names, cache_dir)
    except LookupError as error:
        raise ValueError(f"{error.args[0]}; check the name, or log in with `hf auth login` if it is private") from error
    except ConnectionError as error:
        raise ConnectionError(f"cannot fetch {repo.name}: {error}; {_remedy()}") from error


def cached_weights(weight_set: WeightSet, cache_dir: Path | None = None) -> Path | None:
    """Return the file of a weight set if it is on this machine, else None; never uses the network."""
    file, repo, url = weight_set.file, weight_set.hub_repo, weight_set.url
    if file is not None and file.is_file():
        return file
    found = None if repo is None else hub.cached_file(Repo(repo), WEIGHT_FILES, cache_dir)
    return cached_url(url, cache_dir or default_folder()) if found is None and url is not None else found


def is_cached(weight_set: WeightSet, cache_dir: Path | None = None) -> bool:
    """Return whether the file of a weight set is on this machine, so that no network is needed; it is not read."""
    url = weight_set.url
    return (url is not None and is_kept(url, cache_dir or default_folder())) or (
        cached_weights(replace(weight_set, url=None), cache_dir) is not None
    )


def why_unavailable(weight_set: WeightSet) -> str | None:
    """Return what keeps a weight set from this machine, within seconds; None if it is here or the hub answers."""
    if is_cached(weight_set):
        return None
    return "HF_HUB_OFFLINE is set" if hub.is_offline() else why_unreachable(hub.endpoint())


def _check_online(name: str) -> None:
    if hub.is_offline():
        raise ConnectionError(f"{name} is not in the cache and HF_HUB_OFFLINE forbids fetching it; {_remedy()}")


def _remedy() -> str:
    return (
        f"without a network use the bundled model {BUNDLED_NAMES[0]}, a file (--weights FILE, checkpoint_path=FILE) "
        "or a filled cache (HF_HOME); behind a firewall set HF_ENDPOINT to a mirror of the hub"
    )
