"""A griffe extension that turns the conventions of our docstrings into what mkdocstrings understands.

Cross references, such as ``:class:`Tube```, become links of mkdocs-autorefs. Entries of a section for several names,
``size, mean, std: of the frames``, become one entry for each.
"""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`(~?)([\w.]+)`")
_SHARED_ENTRY = re.compile(r"^( +)(\w+(?:, \w+)+): ((?:.*)(?:\n\1 +\S.*)*)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites the docstring of every object."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called once for every object."""
        if obj.docstring is not None:
            text = _ROLE.sub(lambda match: _link(match, obj), obj.docstring.value)
            obj.docstring.value = _SHARED_ENTRY.sub(_separate, text)


def _separate(match: re.Match[str]) -> str:
    indent, names, text = match.groups()
    return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))


def _link(match: re.Match[str], obj: griffe.Object) -> str:
    short, name = match.groups()
    text = name.rsplit(".", 1)[-1] if short else name
    return f"[`{text}`][{_resolve(name, obj)}]"


def _resolve(name: str, obj: griffe.Object) -> str:
    """The full path of a name as seen from an object; a name that cannot be resolved is kept, and fails the build."""
    if name.startswith("muybridge."):
        return name
    first, _, rest = name.partition(".")
    scope: griffe.Object | griffe.Alias | None = obj
    while scope is not None:
        try:
            return scope.resolve(first) + (f".{rest}" if rest else "")
        except griffe.NameResolutionError:
            scope = scope.parent
    return name
