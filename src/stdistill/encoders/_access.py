"""Whether the weights of an encoder can be had, and which they are: known in seconds, before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stdistill.encoders._checkpoint import FINGERPRINT, WEIGHT_FILES, as_fingerprint, find_weights, fingerprint
from stdistill.encoders._encoder import Encoder

RANDOM = "random"
"""As source of the weights: none, but fixed random ones."""
SHA256 = re.compile("[0-9a-f]{64}")
TIMEOUT_S = 3
"""How long to wait for the hub where there is another way."""


def check(encoder: Encoder, *, timeout_s: float | None = None) -> str | None:
    """Raise an `OSError` unless the weights can be had; nothing is downloaded.

    The hub is asked where it is not switched off (``HF_HUB_OFFLINE``) and the weights are not on this machine already;
    about gated ones only with a token, without which it refuses.

    Parameters
    ----------
    encoder
        Whose weights.
    timeout_s
        Seconds after which the hub counts as out of reach, by default its client's own, ``HF_HUB_ETAG_TIMEOUT``.

    Returns
    -------
    The revision of the weights, where known: a hash of their file, the same of a local copy of this file, of one in the
    hub's cache and of one that is yet to be downloaded.
    """
    if encoder.source is not None and is_local(encoder.source):
        find_weights(Path(encoder.source))
    if not is_on_hub(encoder.source) or (encoder.revision or "").startswith(FINGERPRINT):  # checked before
        return encoder.revision
    name, repository, revision = encoder.name, str(encoder.source), encoder.revision
    cached = find_cached(repository, revision)
    if cached is not None:
        blob = cached.resolve().name  # the cache names large files by their hash, and links to them
        return as_fingerprint(blob) if SHA256.fullmatch(blob) else fingerprint(cached)

    from huggingface_hub import get_token, is_offline_mode

    if is_offline_mode():
        raise FileNotFoundError(explain(name, repository, "they are not on this machine, and HF_HUB_OFFLINE is set."))
    token = get_token()
    if token is None and encoder.gated:
        raise PermissionError(explain(name, repository, "access is granted on request, and you are not logged in."))
    with hub_errors(name, repository):
        return _ask_hub(name, repository, revision, token, timeout_s)


def _ask_hub(
    name: str, repository: str, revision: str | None, token: str | None, timeout_s: float | None
) -> str | None:
    """Ask for the head of a file of weights; return its hash, which is the etag that the hub gives large files."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    # Those of the HTTP client, which differs between versions of the hub.
    client_errors: tuple[type[BaseException], ...] = HfHubHTTPError.__bases__
    for file in WEIGHT_FILES:
        url = hf_hub_url(repository, file, revision=revision)
        try:
            timeout = constants.HF_HUB_ETAG_TIMEOUT if timeout_s is None else timeout_s
            etag = get_hf_file_metadata(url, token=token, timeout=timeout).etag or ""
        except EntryNotFoundError:
            continue  # the hub answered: access is granted, the file has another name
        except HfHubHTTPError:
            raise
        except client_errors as error:
            reason = f"they are not on this machine, and the hub could not be reached ({type(error).__name__})."
            raise ConnectionError(explain(name, repository, reason)) from error
        return as_fingerprint(etag) if SHA256.fullmatch(etag) else revision
    return revision


def is_at_hand(encoder: Encoder) -> bool:
    """Whether the weights are on this machine, or none are needed; the network is not asked."""
    source = encoder.source
    if is_on_hub(source):
        return find_cached(str(source), encoder.revision) is not None
    return source is None or source == RANDOM or (is_local(source) and Path(source).exists())


def fetch(name: str, source: str, revision: str | None) -> Path:
    """Return the file of weights: the local one, the one in the hub's cache, or a download."""
    if is_local(source):
        return find_weights(Path(source))
    cached = find_cached(source, revision)
    if cached is not None:
        return cached

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with hub_errors(name, source):
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
def hub_errors(name: str, repository: str) -> Iterator[None]:
    """Say in plain words why the hub gave no weights."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        reason = (
            "your account has no access yet, or your token may not read gated repositories (a fine-grained token has "
            "to allow it)."
        )
        raise PermissionError(explain(name, repository, reason)) from error
    except errors.RepositoryNotFoundError as error:
        reason = f"the hub shows no repository {repository!r}; it may be private, or spelled differently."
        raise FileNotFoundError(explain(name, repository, reason)) from error
    except errors.LocalEntryNotFoundError as error:
        reason = "they are not on this machine, and the hub could not be reached."
        raise ConnectionError(explain(name, repository, reason)) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status not in {401, 403}:
            raise ConnectionError(explain(name, repository, f"the hub answers with status {status}.")) from error
        reason = "the hub refuses your token; it may be mistyped or out of date (check with `hf auth whoami`)."
        raise PermissionError(explain(name, repository, reason)) from error


def explain(name: str, repository: str, reason: str) -> str:
    """Say why weights cannot be had, and all ways to go on."""
    return f"The weights of {name!r} cannot be had: {reason} {how_to_get(name, repository)}"


def how_to_get(name: str, repository: str) -> str:
    """Say where to ask, how to log in, how to point at a local copy, and which encoders are open."""
    from stdistill.encoders._catalogue import CATALOGUE  # it names the loaders, which import this module

    on_hub = [encoder for encoder in CATALOGUE.values() if encoder.source is not None and encoder.name != name]
    open_ones = ", ".join(encoder.name for encoder in on_hub if encoder.gated is False)
    return (
        f"Open https://huggingface.co/{repository} and ask for access where the page says so; log in with "
        f"`hf auth login`; or point at a copy of the weights with "
        f'sd.encoders.get("{name}", weights="path/to/{WEIGHT_FILES[1]}"). '
        f'Open to all: {open_ones} and any timm model, such as "vit_small_patch16_224"; '
        '"texture" is built in and needs no weights.'
    )
