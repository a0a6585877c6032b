"""Under which terms a model may be passed on: at least those of every encoder that it learned through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ATTRIBUTION, NON_COMMERCIAL, NO_DERIVATIVES = "attribution", "non-commercial", "no derivatives"
SHARE_ALIKE, RESEARCH_ONLY = "share-alike", "research only"


class Licence(NamedTuple):
    """Terms, and what they demand."""

    name: str
    hub: str | None
    """Its identifier on the Hugging Face hub; `None`: it has none there."""
    demands: frozenset[str]
    link: str

    @property
    def in_words(self) -> str:
        """What it demands, for people."""
        return ", ".join(sorted(self.demands)) or "nothing"


def _licence(name: str, link: str, *demands: str, on_hub: bool = True) -> tuple[str, Licence]:
    return name.lower(), Licence(name, name.lower() if on_hub else None, frozenset(demands), link)


KNOWN = dict(
    (
        _licence("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
        _licence("MIT", "https://opensource.org/license/mit", ATTRIBUTION),
        _licence("BSD-3-Clause", "https://opensource.org/license/bsd-3-clause", ATTRIBUTION),
        _licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0", ATTRIBUTION),
        _licence("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/", ATTRIBUTION),
        _licence("CC-BY-SA-4.0", "https://creativecommons.org/licenses/by-sa/4.0/", ATTRIBUTION, SHARE_ALIKE),
        _licence("CC-BY-NC-4.0", "https://creativecommons.org/licenses/by-nc/4.0/", ATTRIBUTION, NON_COMMERCIAL),
        _licence(
            "CC-BY-NC-SA-4.0",
            "https://creativecommons.org/licenses/by-nc-sa/4.0/",
            ATTRIBUTION,
            NON_COMMERCIAL,
            SHARE_ALIKE,
        ),
        _licence(
            "CC-BY-NC-ND-4.0",
            "https://creativecommons.org/licenses/by-nc-nd/4.0/",
            ATTRIBUTION,
            NON_COMMERCIAL,
            NO_DERIVATIVES,
        ),
        _licence(
            "Owkin non-commercial",
            "https://huggingface.co/owkin/phikon-v2",
            ATTRIBUTION,
            NON_COMMERCIAL,
            on_hub=False,
        ),
        _licence(
            "Apache-2.0 with conditions: research use only",
            "https://huggingface.co/prov-gigapath/prov-gigapath",
            ATTRIBUTION,
            NON_COMMERCIAL,
            RESEARCH_ONLY,
            on_hub=False,
        ),
    )
)
"""By their names in small letters; what each demands is our reading, and its text is what counts."""
FREE = {"none": Licence("none", None, frozenset(), "")}
"""Of random weights, which nobody made."""
_UNI = (
    "The terms of UNI bar commercial use of “derivatives, which include models trained on outputs from the UNI "
    "models”, and bar redistribution",
    "https://github.com/mahmoodlab/UNI",
)
WORDING = {"MahmoodLab/UNI": _UNI, "MahmoodLab/UNI2-h": _UNI}
"""What the terms of an encoder say of models that were trained on what it gives, where known: words and address."""


def strictest(names: Sequence[str | None]) -> Licence | None:
    """Return the licence that demands all that any of them does; `None` when one is unknown, or none of them does."""
    found = [(KNOWN | FREE).get((name or "").lower()) for name in names]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    demands = frozenset().union(*(one.demands for one in known))
    return next((one for one in known if one.demands == demands and one.name != "none"), None)


def choose(names: Sequence[str | None], given: str | None) -> Licence:
    """Return the licence of a model.

    Parameters
    ----------
    names
        The licences of its ancestors; `None`, or what is not known here: nobody knows.
    given
        The one that the user wants.

    Raises
    ------
    ValueError
        When there is none to be computed and none is given, or the given one is not known or allows more than those of
        the ancestors.
    """
    computed = strictest(names)
    if given is None:
        if computed is None:
            raise ValueError(_why_none(names))
        return computed
    chosen = KNOWN.get(given.lower())
    if chosen is None:
        msg = f"The licence {given!r} is not known here; expected one of {_list()}."
        raise ValueError(msg)
    known = [one for name in names if (one := KNOWN.get((name or "").lower()))]
    lacking = frozenset().union(*(one.demands for one in known)) - chosen.demands
    if lacking:
        msg = (
            f"The licence {chosen.name!r} allows more than the model's ancestors do ({_quote(names)}): it does not "
            f"demand {', '.join(sorted(lacking))}. Choose one that does"
            f"{'' if computed is None else f', or leave licence= out for {computed.name!r}'}."
        )
        raise ValueError(msg)
    return chosen


def in_short(names: Sequence[str | None], chosen: str | None) -> str:
    """Say in a line under which terms a model is, as far as they are known; a card cannot claim laxer ones."""
    found, computed = KNOWN.get((chosen or "").lower()), strictest(names)
    # A card may come from anybody.
    if found is None or (computed is not None and not computed.demands <= found.demands):
        found = computed
    if found is None:
        return f"not known; of its encoders {_quote(names)}" if names else "not stated"
    return f"{found.name}: {found.in_words}"


def check_shareable(names: Sequence[str | None], *, holds_encoder: bool) -> None:
    """Raise when a model holds weights of an encoder whose terms bar passing on changed ones."""
    barred = [name for name in names if name and NO_DERIVATIVES in KNOWN.get(name.lower(), FREE["none"]).demands]
    if holds_encoder and barred:
        msg = (
            f"The model holds blocks of its encoder, changed, and {barred[0]} does not allow to pass these on. A model "
            "that was fitted with the encoder as it is (finetune_blocks=0) holds none."
        )
        raise ValueError(msg)


def _why_none(names: Sequence[str | None]) -> str:
    if not names:
        why = "it learned through no encoder that has terms of its own"
    elif unknown := [name for name in names if (name or "").lower() not in KNOWN | FREE]:
        why = f"that of its encoder is {' and '.join(repr(name or 'unknown') for name in unknown)}, not one known here"
    else:
        why = f"no one of its ancestors' ({_quote(names)}) demands all that the others do"
    return (
        f"The licence of the model cannot be computed: {why}. Give one with licence=, which must demand all that the "
        f"terms of its encoders and of the data that it was trained on do. Known are {_list()}."
    )


def _list() -> str:
    return ", ".join(one.name for one in KNOWN.values())


def _quote(names: Sequence[str | None]) -> str:
    return ", ".join(dict.fromkeys(name or "unknown" for name in names))
