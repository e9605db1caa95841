"""Figures of the house, counted from the source alone: of this checkout, or of another.

    python tests/house_figures.py [PACKAGE]

``tests/test_house.py`` holds the bounds that are promised.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

#: What tells a path on a disk from a place behind a URL.
PLACES = {
    *("Path", "Location", "LocalLocation", "RemoteLocation", "RemotePath"),
    *("Staging", "RemoteStaging", "LocalTransaction", "RemoteTransaction"),
}


#: Parse a module once for all that is asked of it; nobody changes what comes out.
parsed = cache(ast.parse)


@dataclass(frozen=True)
class Figures:
    """What is counted; a list of parameters is without ``self``."""

    modules: int
    top_entries: int
    lines: int
    floors: int
    cycles: list[list[str]]
    longest_public_parameters: tuple[int, str]
    longest_inner_parameters: tuple[int, str]
    inner_functions_over_8_parameters: int
    isinstance_of_places: int
    isinstance_of_places_outside_files: int
    any_for_staging: int


@cache
def figures(package: Path) -> Figures:
    """Count in the package at a path."""
    trees = {
        ".".join(p.relative_to(package.parent).with_suffix("").parts): parsed(p.read_text())
        for p in sorted(package.rglob("*.py"))
    }
    lines = sum(len(p.read_text().splitlines()) for p in package.rglob("*.py"))
    rest = {"__init__.py", "__main__.py", "py.typed", "napari.yaml", "errors.py", "__pycache__"}
    lists = list(parameter_lists(trees))
    public = _public_names(trees[f"{package.name}.__init__"])
    outer = [row for row in lists if row[1].rpartition(".")[2] in public]
    inner = [row for row in lists if row[1].rpartition(".")[2] not in public]
    places = [module for module, tree in trees.items() for _ in place_checks(tree)]
    graph = {m: _imports(tree, trees) - {m} for m, tree in trees.items()}
    return Figures(
        modules=len(trees),
        top_entries=len({p.name for p in package.iterdir()} - rest),
        lines=lines,
        floors=_floors(graph),
        cycles=cycles(graph),
        longest_public_parameters=max(outer),
        longest_inner_parameters=max(inner),
        inner_functions_over_8_parameters=sum(n > 8 for n, _ in inner),
        isinstance_of_places=len(places),
        isinstance_of_places_outside_files=sum(
            not m.startswith(f"{package.name}.files") for m in places
        ),
        any_for_staging=sum(_any_for_staging(tree) for tree in trees.values()),
    )


def parameter_lists(trees: dict[str, ast.Module]) -> Iterator[tuple[int, str]]:
    """Yield how many parameters each function has, and its dotted name."""
    for module, tree in trees.items():
        # Whatever they stand in: a function may be defined in an `if` or a `with`.
        names: list[tuple[ast.AST, str]] = [(tree, "")]
        while names:
            node, here = names.pop()
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                here = f"{here}.{node.name}"
                if not isinstance(node, ast.ClassDef):
                    a = node.args
                    every = [*a.posonlyargs, *a.args, *a.kwonlyargs]
                    yield sum(p.arg not in ("self", "cls") for p in every), f"{module}{here}"
            names += ((child, here) for child in ast.iter_child_nodes(node))


def _public_names(root: ast.Module) -> set[str]:
    """Give the names that the package's root tells type checkers of."""
    return {
        a.asname
        for block in root.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for a in node.names
        if a.asname
    }


def place_checks(tree: ast.Module) -> Iterator[int]:
    """Yield the lines on which an object is asked whether it is of a kind of place."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "isinstance"
            and len(node.args) == 2
            and {n.id for n in ast.walk(node.args[1]) if isinstance(n, ast.Name)} & PLACES
        ):
            yield node.lineno


def _any_for_staging(tree: ast.Module) -> int:
    def is_any(node: ast.expr | None) -> bool:
        return isinstance(node, ast.Name) and node.id == "Any"

    found = 0
    for node in ast.walk(tree):
        name = ""
        if isinstance(node, ast.AnnAssign) and is_any(node.annotation):
            name = ast.unparse(node.target)
        elif isinstance(node, ast.arg) and is_any(node.annotation):
            name = node.arg
        found += name in ("staging", "transaction", "txn", "target", "place", "places")
    return found


def _imports(tree: ast.Module, modules: dict[str, ast.Module]) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names] + [node.module]
        found |= {n for n in names if n in modules}
    return found


def reachable(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Give of each module all that it imports, directly or not."""
    reached: dict[str, set[str]] = {}
    for module in graph:
        seen: set[str] = set()
        todo = list(graph[module])
        while todo:
            here = todo.pop()
            if here not in seen:
                seen.add(here)
                todo.extend(graph[here])
        reached[module] = seen
    return reached


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Give the groups of modules that import one another, those for type hints counted too."""
    reached = reachable(graph)
    found = {tuple(sorted(n for n in reached[m] if m in reached[n])) for m in graph}
    return sorted(list(group) for group in found if group)


def _floors(graph: dict[str, set[str]]) -> int:
    """Give how many floors the entries of the package stand on, a cycle counted as one."""
    entry = {m: m.split(".")[1] if "." in m else "" for m in graph}
    between: dict[str, set[str]] = {e: set() for e in entry.values() if e}
    for module, targets in graph.items():
        if entry[module]:
            between[entry[module]] |= {entry[t] for t in targets if entry[t]} - {entry[module]}
    reached = reachable(between)
    height: dict[str, int] = {}
    for e in sorted(between, key=lambda e: len(reached[e])):
        below = [height[b] for b in reached[e] if b in height and e not in reached[b]]
        height[e] = 1 + max(below, default=0)
    return max(height.values())


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent / "scout_dask_io"
    counted = figures(Path(sys.argv[1]) if len(sys.argv) > 1 else root)
    for field in fields(counted):
        print(f"{field.name:36} {getattr(counted, field.name)}")
