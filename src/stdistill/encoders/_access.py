"""Whether the weights of an encoder can be had, and which they are: known in seconds, before anything is computed."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from stdistill.encoders._catalogue import CATALOGUE
from stdistill.encoders._checkpoint import FINGERPRINT, WEIGHT_FILES, as_fingerprint, find_weights, fingerprint
from stdistill.encoders._encoder import Encoder
from stdistill.encoders._hub import RANDOM, explain, find_cached, hub_errors, is_local, is_on_hub

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
        weights = find_weights(Path(encoder.source))
        # Those of an encoder that was described earlier may be another file by now.
        if (encoder.revision or FINGERPRINT).startswith(FINGERPRINT):
            return fingerprint(weights)
    if not is_on_hub(encoder.source) or (encoder.revision or "").startswith(FINGERPRINT):  # checked before
        return encoder.revision
    name, repository, revision = encoder.name, str(encoder.source), encoder.revision
    cached = find_cached(repository, revision)
    if cached is not None:
        blob = cached.resolve().name  # the cache names large files by their hash, and links to them
        return as_fingerprint(blob) if SHA256.fullmatch(blob) else fingerprint(cached)

    try:
        return _ask(encoder, timeout_s)
    except OSError as error:
        raise type(error)(f"{error} {_open_to_all(name)}") from error


def _ask(encoder: Encoder, timeout_s: float | None) -> str | None:
    """Ask the hub for weights that are not on this machine."""
    from huggingface_hub import get_token, is_offline_mode

    name, repository = encoder.name, str(encoder.source)
    if is_offline_mode():
        raise FileNotFoundError(explain(name, repository, "they are not on this machine, and HF_HUB_OFFLINE is set."))
    token = get_token()
    if token is None and encoder.gated:
        raise PermissionError(explain(name, repository, "access is granted on request, and you are not logged in."))
    with hub_errors(partial(explain, name, repository), repository):
        return _ask_hub(name, repository, encoder.revision, token, timeout_s)


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


def _open_to_all(name: str) -> str:
    """Say which encoders could be taken instead."""
    on_hub = [encoder for encoder in CATALOGUE.values() if encoder.source is not None and encoder.name != name]
    open_ones = ", ".join(encoder.name for encoder in on_hub if encoder.gated is False)
    return (
        f'Open to all: {open_ones} and any timm model, such as "vit_small_patch16_224"; "texture" is built in and '
        "needs no weights."
    )
