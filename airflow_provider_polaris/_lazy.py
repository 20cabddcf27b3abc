"""Exports that load their module at the first use, so that a DAG file pays only for what it imports (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(module: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module.

    :param module: the ``__name__`` of the module that exports.
    :param modules: the module that defines a name, beside the module that exports it, by the name.
    """
    package = module.rpartition(".")[0]

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{modules[name]}"), name)
        setattr(sys.modules[module], name, value)
        return value

    return load
