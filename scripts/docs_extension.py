"""For the documentation site: what griffe cannot read from the docstrings and signatures of the package by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|meth|func|attr|data|exc|mod):`(~?)([\w.]+)`")


class Docstrings(griffe.Extension):
    """Turns the Sphinx roles in docstrings into Markdown, and gives each task the options of its base classes."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replace the roles in the docstring of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(_markdown, obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Add inherited options to the signatures, as ``ProjectTask`` does for ``inspect.signature``."""
        for one in _classes(pkg):
            own = one.members.get("__init__")
            if not isinstance(own, griffe.Function) or "kwargs" not in own.parameters:
                continue
            others = own.parameters["kwargs"]
            del own.parameters["kwargs"]
            for base in one.resolved_bases:
                for inherited in getattr(base.members.get("__init__"), "parameters", ()):
                    if inherited.kind is griffe.ParameterKind.keyword_only and inherited.name not in own.parameters:
                        own.parameters.add(inherited)
            own.parameters.add(others)


def _classes(module: griffe.Module) -> Iterator[griffe.Class]:
    """Yield the classes of a package, each after its bases."""
    found = [one for one in _all_classes(module) if "ProjectTask" in {base.name for base in [one, *one.mro()]}]
    yield from sorted(found, key=lambda one: len(one.mro()))


def _all_classes(module: griffe.Module) -> Iterator[griffe.Class]:
    yield from module.classes.values()
    for inner in module.modules.values():
        yield from _all_classes(inner)


def _markdown(role: re.Match[str]) -> str:
    is_short, name = role.groups()
    shown = f"`{name.rpartition('.')[2] if is_short else name}`"
    return f"[{shown}][{name}]" if name.startswith("airflow_provider_polaris.") else shown
