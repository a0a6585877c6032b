"""Arguments that several functions take: written down once, shown by each of them."""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ForwardRef, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def takes(*groups: type[Any], defaults: Mapping[str, Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take groups of arguments as ``**arguments``, and show them as if it had named them itself.

    The function gets all of them, the defaults where the user gave none; a name that it does not have is an error. Its
    signature lists them, and in its docstring they replace the entry ``**arguments``.

    Parameters
    ----------
    groups
        Classes of the kind ``TypedDict`` with a numpydoc section "Parameters": names, types and descriptions.
    defaults
        A value for each of the names.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function)
        named = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        shared = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=_spell(annotation)
            )
            for group in groups
            for name, annotation in group.__annotations__.items()
        ]
        signature = own.replace(parameters=[*named, *shared])

        @wraps(function)
        def call(*args: P.args, **given: P.kwargs) -> R:
            unknown = [name for name in given if name not in signature.parameters]
            if unknown:
                near = difflib.get_close_matches(unknown[0], signature.parameters, n=1)
                meant = f" Did you mean {near[0]!r}?" if near else ""
                msg = f"{function.__name__}() got an unexpected keyword argument {unknown[0]!r}.{meant}"
                raise TypeError(msg)
            return function(*args, **{**{each.name: each.default for each in shared}, **given})

        call.__signature__ = signature  # type: ignore[attr-defined]
        if function.__doc__ is not None:  # python -OO leaves none
            call.__doc__ = _fill_in(function.__doc__, [_describe(group) for group in groups])
        return call

    return decorate


def _spell(annotation: Any) -> Any:
    """Return an annotation as it was written, as those of other parameters are."""
    return annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation


def _describe(group: type[Any]) -> str:
    """Return the entries of the section "Parameters"."""
    text = inspect.getdoc(group) or ""
    return text.partition("Parameters\n----------\n")[2].rstrip()


def _fill_in(doc: str, descriptions: list[str]) -> str:
    """Put the descriptions in the place of the entry ``**arguments``, which is one line."""
    return re.sub(
        r"^( *)\*\*arguments\n",
        lambda found: "".join(textwrap.indent(each, found[1]) + "\n" for each in descriptions),
        doc,
        count=1,
        flags=re.MULTILINE,
    )
