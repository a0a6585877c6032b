"""Models to the Hugging Face hub and from it, through its own client."""

from __future__ import annotations

import logging
from functools import partial
from importlib.metadata import version
from pathlib import Path

from stdistill.encoders._hub import hub_errors

logger = logging.getLogger("stdistill")

PREFIX = "hf:"
"""Begins the name of a model on the hub where a folder could stand, too."""
FILES = ("card.json", "model.safetensors", "history.csv", "README.md")
"""What goes there, and all that is ever pulled from there."""


def find_folder(place: str | Path) -> Path:
    """Return the folder of a model; of ``hf:owner/name`` or ``hf:owner/name@revision`` that in the hub's cache."""
    if not isinstance(place, str) or not place.startswith(PREFIX):
        return Path(place).expanduser()
    repo_id, _, revision = place.removeprefix(PREFIX).partition("@")
    return pull(repo_id, revision or None)


def pull(repo_id: str, revision: str | None = None) -> Path:
    """Return the folder in the hub's cache with the files of a model, of which those that are not there are fetched.

    Without network, or with ``HF_HUB_OFFLINE``, it is what was fetched before.

    Raises
    ------
    ValueError
        When `repo_id` is no ``owner/name``.
    FileNotFoundError
        When there is no such repository, revision, or model in it.
    PermissionError
        When access has to be asked for.
    ConnectionError
        When the hub cannot be reached, and the model is not in the cache.
    """
    _check_id(repo_id)
    from huggingface_hub import snapshot_download

    with hub_errors(partial(_explain_pull, repo_id, revision), repo_id):
        folder = Path(
            snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=list(FILES),
                library_name="stdistill",
                library_version=version("stdistill"),
            )
        )
    if not (folder / FILES[0]).is_file():
        msg = f"The repository {repo_id!r} holds no model of stdistill: there is no {FILES[0]}."
        raise FileNotFoundError(msg)
    logger.info("The model %s is of commit %s.", repo_id, folder.name)
    return folder


def push(folder: Path, repo_id: str, *, private: bool) -> str:
    """Put the files of a folder into a repository in one commit, and return its hash; the repository may be there.

    Raises
    ------
    ValueError
        When `repo_id` is no ``owner/name``.
    PermissionError
        When nobody is logged in, or may not write there.
    ConnectionError
        When the hub cannot be reached.
    """
    _check_id(repo_id)
    from huggingface_hub import HfApi, get_token, is_offline_mode

    if is_offline_mode():
        msg = f"The model cannot be put on the hub as {repo_id!r}: HF_HUB_OFFLINE is set."
        raise ConnectionError(msg)
    if get_token() is None:
        raise PermissionError(_explain_push(repo_id, "you are not logged in."))
    api = HfApi(library_name="stdistill", library_version=version("stdistill"))
    with hub_errors(partial(_explain_push, repo_id), repo_id):
        api.create_repo(repo_id, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo_id, folder_path=folder, allow_patterns=list(FILES), commit_message="Model of stdistill"
        )
    logger.info("The model is at %s.", done.commit_url)
    return done.oid


def _check_id(repo_id: str) -> None:
    """Raise unless it has an owner and a name; what these may consist of the hub's client says."""
    if not isinstance(repo_id, str) or [*map(bool, repo_id.split("/"))] != [True, True]:
        msg = f"A model on the hub is named owner/name, found {repo_id!r}."
        raise ValueError(msg)


def _explain_pull(repo_id: str, revision: str | None, reason: str) -> str:
    which = "" if revision is None else f" of revision {revision!r}"
    return (
        f"The model {repo_id!r}{which} cannot be had from the hub: {reason} Its page is "
        f"https://huggingface.co/{repo_id}: where access has to be asked for, it says so there. Log in with "
        "`hf auth login`, or load a folder with a copy of its files."
    )


def _explain_push(repo_id: str, reason: str) -> str:
    return (
        f"The model cannot be put on the hub as {repo_id!r}: {reason} Log in with `hf auth login` and a token that may "
        f"write to {repo_id.partition('/')[0]!r}."
    )
