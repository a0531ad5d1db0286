"""`convit push`: a trained model as a repository of the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convit.cli import errors, options

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or a weight file.")]
Name = Annotated[str, typer.Argument(metavar="OWNER/NAME[@BRANCH]", help="Repository on the hub; created if needed.")]
Yes = Annotated[bool, typer.Option("--yes", help="Upload; without it, only show what would be uploaded.")]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository private.")]
Message = Annotated[str | None, typer.Option("--message", "-m", metavar="TEXT", help="Commit message.")]
License = Annotated[
    str | None, typer.Option("--license", metavar="ID", help="License of the weights, such as apache-2.0.")
]


def push(
    run: Run,
    name: Name,
    yes: Yes = False,
    private: Private = False,
    message: Message = None,
    terms: License = None,
) -> None:
    """Upload a model to the Hugging Face hub: weights, config.json and a model card with the measured figures.

    convit, timm and transformers can then load it by its name. Without --yes, nothing is sent. The token is that of
    `hf auth login` or HF_TOKEN.
    """
    from convit.weights import upload

    prepared = upload.prepare_upload(run, name, terms=terms)
    if prepared.not_timm is not None:
        errors.tell(f"warning: timm and transformers cannot build this model: {prepared.not_timm}")
    if prepared.stale:
        errors.tell(f"warning: left out of the card, since they measured other weights: {', '.join(prepared.stale)}")
    address = upload.push(prepared, private=private, message=message) if yes else None
    repo = prepared.repo
    known = {"repository": repo.name, "revision": repo.revision, "files": prepared.sizes, "uploaded": address}
    lines = [f"{size:>13,} bytes  {file}" for file, size in prepared.sizes.items()]
    if yes:
        options.print_result("\n".join([*lines, f"uploaded: {address}"]), known)
        return
    head = f"{repo.name} ({repo.revision}) would get:"
    tail = ["", prepared.card.strip(), "", "nothing was uploaded; add --yes to upload"]
    options.print_result("\n".join([head, *lines, *tail]), {**known, "card": prepared.card})
