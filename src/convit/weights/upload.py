"""A trained model as a repository of the Hugging Face hub: weights, timm's `config.json`, and a model card."""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from convit.model.config import ConViTConfig
from convit.model.variants import VARIANTS
from convit.output.files import hash_file
from convit.output.text import first_line, json_text, read_lines, short
from convit.weights.files import described_file
from convit.weights.header import read_header, read_metadata
from convit.weights.hub import Repo, endpoint, is_offline, parse_repo
from convit.weights.model_card import LICENSES, Sources, front_matter, render_card
from convit.weights.progress import progress_shown
from convit.weights.reach import why_unreachable
from convit.weights.timm_config import CONFIG_FILE, MODEL_FILE, timm_config, why_not_timm

CARD_FILE = "README.md"
_MOST_BYTES = 2**26  # of a JSON file that may be an evaluation


@dataclass(frozen=True)
class Upload:
    """What goes to the hub.

    Attributes:
        repo: the repository and its branch.
        files: what each file of the repository will hold: bytes, or those of a file here.
        not_timm: why timm and transformers cannot build the model, which then has no `config.json`; else None.
        stale: evaluations beside the weights that measured other weights, and are left out.
    """

    repo: Repo
    files: dict[str, Path | bytes]
    not_timm: str | None
    stale: tuple[str, ...]

    @property
    def card(self) -> str:
        """The text of the model card."""
        return cast("bytes", self.files[CARD_FILE]).decode()

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(held) if isinstance(held, bytes) else held.stat().st_size for name, held in self.files.items()
        }


def prepare_upload(run: str | Path, repo: str, *, terms: str | None = None) -> Upload:
    """Gather what `convit push` uploads; nothing is sent.

    Figures in the card are those that `convit evaluate` or `convit finetune` left beside the weights, as far as the
    hash in them is that of these weights; else the accuracy that the training ended with.

    Args:
        run: folder of a run, a file that `save_weights` wrote, or a folder with one.
        repo: "owner/name", or "owner/name@branch" for another branch than "main".
        terms: license of the weights, one of the hub's identifiers ("apache-2.0"), in `config.json` and the card; None
            for what the file says.

    Raises:
        FileNotFoundError: there is no such run, or it has not finished.
        ValueError: the name has another form, the license is unknown, or the file does not describe its model.
    """
    place = parse_repo(repo)
    if terms and terms not in LICENSES:
        raise ValueError(
            f"the license is {terms!r}, but must be one of {', '.join(LICENSES)}; other terms are free text: set "
            "data.terms when training"
        )
    try:
        file = described_file(run)
    except FileNotFoundError as error:
        if not Path(run, "recipe.yaml").is_file():
            raise
        raise FileNotFoundError(
            f"the run in {run} has written no weights yet; let it finish: give its command again, with --resume"
        ) from error
    described = read_metadata(file)
    reason = why_not_timm(ConViTConfig.from_dict(described["config"]), read_header(file))
    measured, stale = _evaluations(file)
    is_run = file.name == "weights.safetensors"
    sources = Sources(
        evaluations=measured,
        log=read_lines(file.with_name("log.jsonl")) if is_run else (),
        recipe=_text(file.with_name("recipe.yaml")) if is_run else "",
        environment=_text(file.with_name("environment.yaml")) if is_run else "",
        use=_use(place, described, reason),
        terms=terms or "",
    )
    name = place.name.partition("/")[2]
    card = front_matter(name, file, measured, sources.terms) + render_card(name, file, sources)
    files: dict[str, Path | bytes] = {MODEL_FILE: file}
    if reason is None:
        files[CONFIG_FILE] = json_text(timm_config({**described, **({"license": terms} if terms else {})})).encode()
    return Upload(place, {**files, CARD_FILE: card.encode()}, reason, stale)


def push(upload: Upload, *, private: bool = False, message: str | None = None) -> str:
    """Upload a model in one commit, and give the commit's address.

    The repository and the branch are made where they are missing; a new repository is private where that is asked for.
    The token is the hub client's own (`hf auth login`, HF_TOKEN); it is neither printed nor stored.

    Raises:
        PermissionError: there is no token, or the hub refuses it.
        ValueError: the repository holds a model that is not a ConViT.
        ConnectionError: the hub cannot be reached, or did not take the files.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    token, repo = get_token(), upload.repo
    if is_offline():
        raise ConnectionError("HF_HUB_OFFLINE forbids any request; unset it to upload")
    if not token:
        raise PermissionError("there is no token for the hub; run `hf auth login`, or set HF_TOKEN")
    if (reason := why_unreachable(endpoint())) is not None:
        raise ConnectionError(f"cannot reach {endpoint()} ({reason}); try again later")
    api = HfApi(endpoint=endpoint(), token=token, library_name="convit")
    with _said_in_one_line(repo, token):
        found = _config_there(api, repo)
    if found is not None and found.get("architecture") not in VARIANTS:
        what = found.get("architecture") or found.get("architectures") or found.get("model_type") or "an unknown model"
        raise ValueError(f"{repo.name} holds another model, {short(what)}; choose another name")
    operations: list[Any] = [CommitOperationAdd(name, held) for name, held in upload.files.items()]
    if found is not None and CONFIG_FILE not in upload.files:
        operations.append(CommitOperationDelete(CONFIG_FILE))
    with _said_in_one_line(repo, token), _quiet_client():
        api.create_repo(repo.name, private=private or None, exist_ok=True)
        if repo.revision != "main":
            api.create_branch(repo.name, branch=repo.revision, exist_ok=True)
        message = message or "Upload a ConViT with convit"
        return str(api.create_commit(repo.name, operations, commit_message=message, revision=repo.revision).commit_url)


def _evaluations(file: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """What was measured of these very weights, by the JSON files beside them, and the files that measured others."""
    own, found, stale = hash_file(file), list[dict[str, Any]](), list[str]()
    for path in sorted(file.parent.glob("*.json")):
        for each in _measurements(path):
            if each.get("weights_sha256") != own:
                stale.append(path.name)
            elif each["data_sha256"] not in [other["data_sha256"] for other in found]:
                found.append(each)
    return found, tuple(dict.fromkeys(stale))


def _measurements(path: Path) -> Iterator[dict[str, Any]]:
    """The evaluations in a JSON file: of `convit evaluate`, or those on either part of a fine-tuning's images."""
    try:
        content = json.loads(path.read_bytes()) if path.stat().st_size <= _MOST_BYTES else None
    except (ValueError, RecursionError):
        return
    if not isinstance(content, dict):
        return
    parts = {"": content, "test images": content.get("test"), "validation images": content.get("validation")}
    for part, each in parts.items():
        if isinstance(each, dict) and {"top1", "top5", "weights_sha256", "data_sha256", "data"} <= each.keys():
            yield {**each, "part": part}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _use(repo: Repo, described: Mapping[str, Any], not_timm: str | None) -> str:
    """How the repository is loaded, in Markdown."""
    name = repo.name if repo.revision == "main" else f"{repo.name}@{repo.revision}"
    classifies = described["config"]["num_classes"] > 0
    ours = f'{"Classifier" if classifies else "Embedder"}("hf-hub:{name}")("photo.jpg")'
    own = f"```python\nimport convit\n\nresult = convit.{ours}\n```"
    if not_timm is not None:
        return f"{own}\n\ntimm and transformers cannot build it: {not_timm}."
    task = "image-classification" if classifies else "image-feature-extraction"
    revision = "" if repo.revision == "main" else f', revision="{repo.revision}"'
    return (
        f"{own}\n\nIn timm and transformers:\n\n```python\n"
        f'model = timm.create_model("hf-hub:{name}", pretrained=True)\n'
        f'pipe = transformers.pipeline("{task}", model="{repo.name}"{revision})\n```'
    )


def _config_there(api: Any, repo: Repo) -> dict[str, Any] | None:
    """The `config.json` of the repository as it is, or None."""
    from huggingface_hub import errors

    missing = (errors.EntryNotFoundError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError)
    for revision in dict.fromkeys((repo.revision, "main")):
        try:
            with TemporaryDirectory() as folder:
                path = api.hf_hub_download(repo.name, CONFIG_FILE, revision=revision, local_dir=folder)
                content = json.loads(Path(path).read_bytes())
        except errors.LocalEntryNotFoundError:  # a kind of EntryNotFoundError, but nobody has answered
            raise
        except missing:
            continue
        except ValueError:
            content = None
        return content if isinstance(content, dict) else {}
    return None


@contextmanager
def _said_in_one_line(repo: Repo, token: str) -> Generator[None]:
    """Turn whatever the client raises into one line without the token; errors of this machine's files pass."""
    try:
        yield
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, OSError) and error.errno is not None and status is None:
            raise
        if status in (401, 403):
            raise PermissionError(
                f"{endpoint()} does not let this token write to {repo.name} ({status}); take one with write access: "
                "`hf auth login`, or HF_TOKEN"
            ) from None
        said = first_line(error.__cause__ or error).replace(token, "…")
        raise ConnectionError(
            f"{endpoint()} did not take {repo.name} ({said}); try again, what has arrived is not sent twice"
        ) from None


@contextmanager
def _quiet_client() -> Generator[None]:
    """Keep back what the client warns its own authors of, and its bars where ours are not shown."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    with warnings.catch_warnings(), ExitStack() as after:
        warnings.simplefilter("ignore", DeprecationWarning)
        if not progress_shown() and not are_progress_bars_disabled():
            disable_progress_bars()
            after.callback(enable_progress_bars)
        yield
