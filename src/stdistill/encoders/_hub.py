"""Weights on the Hugging Face hub, in its cache on this machine, and in local copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from stdistill.encoders._checkpoint import WEIGHT_FILES, find_weights

RANDOM = "random"
"""As source of the weights: none, but fixed random ones."""


def fetch(name: str, source: str, revision: str | None) -> Path:
    """Return the file of weights: the local one, the one in the hub's cache, or a download."""
    if is_local(source):
        return find_weights(Path(source))
    cached = find_cached(source, revision)
    if cached is not None:
        return cached

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with hub_errors(partial(explain, name, source), source):
        for file in WEIGHT_FILES:
            try:
                return Path(hf_hub_download(source, file, revision=revision))
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
    raise FileNotFoundError(explain(name, source, f"the repository has no {' and no '.join(WEIGHT_FILES)}."))


def find_cached(repository: str, revision: str | None) -> Path | None:
    """Return the file of weights in the hub's cache on this machine, if it is there."""
    from huggingface_hub import try_to_load_from_cache

    for file in WEIGHT_FILES:
        path = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(path, str):
            return Path(path)
    return None


def commit(cached: Path) -> str:
    """Read the commit off a file of the hub's cache, which lies in ``snapshots/<commit>/``."""
    return cached.parent.name


def is_local(source: str) -> bool:
    """Whether the source is a file or folder; repositories are never absolute paths."""
    return Path(source).is_absolute()


def is_on_hub(source: str | None) -> bool:
    """Whether the source is a repository of the hub."""
    return source is not None and source != RANDOM and not is_local(source) and "://" not in source


@contextmanager
def hub_errors(explain: Callable[[str], str], repository: str) -> Iterator[None]:
    """Say in plain words why the hub did not give, or take, what was asked of it.

    `explain` makes a message of the reason.
    """
    from huggingface_hub import errors

    # Those of the HTTP client, which differs between versions of the hub.
    bases: tuple[type[BaseException], ...] = errors.HfHubHTTPError.__bases__
    client_errors = tuple(base for base in bases if base is not OSError)
    try:
        yield
    except errors.GatedRepoError as error:
        reason = (
            "your account has no access yet, or your token may not read gated repositories (a fine-grained token has "
            "to allow it)."
        )
        raise PermissionError(explain(reason)) from error
    except errors.RepositoryNotFoundError as error:
        reason = f"the hub shows no repository {repository!r}; it may be private, or spelled differently."
        raise FileNotFoundError(explain(reason)) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(explain("its repository has no such revision.")) from error
    except errors.LocalEntryNotFoundError as error:
        reason = "not all of it is on this machine, and the hub could not be reached."
        raise ConnectionError(explain(reason)) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status not in {401, 403}:
            raise ConnectionError(explain(f"the hub answers with status {status}.")) from error
        reason = "the hub refuses your token; it may be mistyped or out of date (check with `hf auth whoami`)."
        raise PermissionError(explain(reason)) from error
    except client_errors as error:
        raise ConnectionError(explain(f"the hub could not be reached ({type(error).__name__}).")) from error


def explain(name: str, repository: str, reason: str) -> str:
    """Say why weights cannot be had, and all ways to go on."""
    return f"The weights of {name!r} cannot be had: {reason} {how_to_get(name, repository)}"


def how_to_get(name: str, repository: str) -> str:
    """Say where to ask, how to log in, and how to point at a local copy."""
    return (
        f"Open https://huggingface.co/{repository} and ask for access where the page says so; log in with "
        f"`hf auth login`; or point at a copy of the weights with "
        f'sd.encoders.get("{name}", weights="path/to/{WEIGHT_FILES[1]}").'
    )
