"""What every saved model can do: say what it is, go to the hub, and come from there."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from copy import copy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

from stdistill._support.files import digest_file
from stdistill.models.sharing import hub
from stdistill.models.sharing.description import Description, as_html, as_text, summary
from stdistill.models.sharing.licences import NON_COMMERCIAL, check_shareable, choose, in_short
from stdistill.models.sharing.readme import write_readme

logger = logging.getLogger("stdistill")

README = hub.FILES[-1]


class Shareable(ABC):
    """A model with a card, which is saved to a folder of files that are not pickled."""

    kind: ClassVar[str]
    """Its name among those of all kinds."""
    card: Any
    known_sha256: str | None = None
    """Fingerprint of the weights that the card was written for, by the fitting or a file; `None`: nobody knows."""

    @abstractmethod
    def describe(self) -> Description:
        """Say what it is, for people."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """Fingerprint of the weights."""

    @abstractmethod
    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write it to a folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: str | Path) -> Self:
        """Read it from a folder."""

    @classmethod
    def from_pretrained(cls, repo_id: str, *, revision: str | None = None) -> Self:
        """Read a model from the Hugging Face hub.

        Only ``card.json``, ``model.safetensors``, ``history.csv`` and ``README.md`` are fetched, whatever else the
        repository holds, into the hub's cache. Nothing is unpickled, and files that are not those on the card are
        refused. With ``HF_HUB_OFFLINE``, or without network, what was fetched before is read.

        Parameters
        ----------
        repo_id
            The repository, ``"owner/name"``.
        revision
            Which of its states: a commit, which stays what it is, a branch or a tag. By default the newest.

        Returns
        -------
        The model.

        Raises
        ------
        FileNotFoundError
            When there is no such repository or revision, or no model of stdistill in it.
        PermissionError
            When access has to be asked for.
        ConnectionError
            When the hub cannot be reached, and the model was not fetched before.
        ValueError
            As of `load`, and when `repo_id` is no ``"owner/name"``.
        """
        return cls.load(hub.pull(repo_id, revision))

    def push_to_hub(
        self, repo_id: str, *, licence: str | None = None, tissue: str | None = None, private: bool = False
    ) -> str:
        """Put the model on the Hugging Face hub, with a page that says what it is.

        One commit of four files: those of `save`, and ``README.md``, which is written from the card. What is given
        here is kept on the card.

        Parameters
        ----------
        repo_id
            The repository, ``"owner/name"``; it is made where it is not there.
        licence
            Terms of the model. By default those of the encoder that it learned through, of several the strictest;
            given ones must demand as much. Needed where these are not known.
        tissue
            What it was trained on, in your words: organ, species, disease, preparation.
        private
            Whether a new repository is seen by its owners alone.

        Returns
        -------
        The commit, which ``from_pretrained(revision=)`` takes.

        Raises
        ------
        ValueError
            When the terms are not known, or the given ones allow more than those of the encoder; the weights are not
            those that the card was written for; or the model holds weights of an encoder that may not be passed on.
        PermissionError
            When nobody is logged in (``hf auth login``), or may not write there.
        ConnectionError
            When the hub cannot be reached.
        """
        return self._push(repo_id, replace(self.card, tissue=tissue or self.card.tissue), licence, private=private)

    def _push(self, repo_id: str, card: Any, licence: str | None, *, private: bool) -> str:
        """Put the model with another card on the hub, and keep this card when that is done."""
        shared = copy(self)
        described = self.describe()
        if self.known_sha256 not in (None, self.sha256):
            msg = (
                f"The weights of the model ({self.sha256[:16]}…) are not those that its card was written for "
                f"({str(self.known_sha256)[:16]}…): they were changed since. Share the model as it was fitted or saved."
            )
            raise ValueError(msg)
        check_shareable(described.licences, holds_encoder=described.holds_encoder)
        chosen = choose(described.licences, licence or card.licence)
        shared.card = replace(card, licence=chosen.name)
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / "model"
            shared.save(folder)
            sums = {path.name: digest_file(path) for path in sorted(folder.iterdir())}
            page = write_readme(shared.describe(), repo_id=repo_id, kind=self.kind, licence=chosen, sums=sums)
            (folder / README).write_text(page, encoding="utf-8")
            commit = hub.push(folder, repo_id, private=private)
        self.card = shared.card
        if NON_COMMERCIAL in chosen.demands:
            logger.info(
                "The licence of the model is %s: %s. Consider to give access on request alone, as its encoder does: "
                "“gated” in the settings of %s on the hub; what is agreed to then is on the page already.",
                chosen.name,
                chosen.in_words,
                repo_id,
            )
        return commit

    def __repr__(self) -> str:
        described = self.describe()
        return as_text(f"{type(self).__name__}: {described.title}", self._summary(described))

    def _repr_html_(self) -> str:
        described = self.describe()
        return as_html(f"{type(self).__name__}: {described.title}", self._summary(described), described)

    def _summary(self, described: Description) -> dict[str, str]:
        return summary(described, in_short(described.licences, self.card.licence), self.known_sha256 or self.sha256)
