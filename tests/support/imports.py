"""The imports between the modules of the package, read from its sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "airflow_provider_polaris"

#: The rooms of the package, from the top of the house to its bottom: folders, and modules that are in none. A module
#: imports from its own level and from those below. ``docs/pictures/house.svg`` shows them in this order. Users import
#: hooks and exceptions too, but the rooms above need these, and so they stand below.
LEVELS = (
    ("__main__", "cli"),
    ("operators", "sensors", "get_provider_info", "pytest_plugin"),
    ("triggers",),
    ("submission", "polling", "waiting"),
    ("hooks", "links", "assets", "exceptions", "models", "configuration", "connection_form"),
    ("gate",),
    ("api",),
    ("clock", "_compat", "_lazy", "__init__"),
)

#: Each module's name, without the package's, and the names of the modules that it imports. The package itself is
#: ``__init__``, another folder has the folder's name.
Graph = dict[str, set[str]]


def import_graph(package: Path = PACKAGE) -> Graph:
    """Return the imports between the modules of a package, also those inside functions and for type checkers."""
    paths = {_module_name(path, package): path for path in sorted(package.rglob("*.py"))}
    graph: Graph = {}
    for module, path in paths.items():
        own = [name for name in imported_names(path, package) if f"{name}.".startswith(f"{package.name}.")]
        graph[module] = {_nearest_module(name, package.name, paths) for name in own}
    return graph


def imported_names(path: Path, package: Path = PACKAGE) -> set[str]:
    """Return the full name of everything that a file imports: ``a.b.C`` for ``from a.b import C``."""
    folder = [package.name, *path.parent.relative_to(package).parts]
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return names


def circles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Return the groups of modules that import each other, directly or indirectly."""
    reached = {module: set(reachable(graph, module)) for module in graph}
    return {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in graph
        if module in reached[module]
    }


def reachable(graph: Mapping[str, set[str]], start: str) -> Iterator[str]:
    """Yield the modules that a module imports, directly or indirectly. A module in a circle imports itself."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for module in graph[waiting.pop()] - seen:
            seen.add(module)
            waiting.append(module)
            yield module


def room_of(module: str) -> str:
    """Return the folder of a module, or the module's name if it is in no folder."""
    return module.partition(".")[0]


def path_of(module: str, package: Path = PACKAGE) -> Path:
    """Return the file of a module of the package."""
    path = package.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _nearest_module(name: str, package: str, modules: Mapping[str, Path]) -> str:
    """Return the module of this name, or the module that defines the name."""
    while name != package:
        if (short := name.removeprefix(f"{package}.")) in modules:
            return short
        name = name.rpartition(".")[0]
    return "__init__"
