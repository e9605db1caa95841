"""The shape of the house: imports go down only, and each library has one door.

Read from the source with ``ast``; nothing is imported.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = "scout_dask_io"
PACKAGE = Path(__file__).resolve().parent.parent / ROOT
MAX_LINES = 300

# From the ground up. A module imports from the floors below its own; where an
# entry is a folder, its modules may also import each other.
FLOORS = [
    {"errors", "human", "amplification", "picture", "charts", "sheet_style"},
    {"grid", "urls"},
    {"indexing"},
    {
        "source",
        "plan",
        "sharding",
        "chunkbuffer",
        "integer_mean",
        "memory",
        "progress",
        "voxel",
        "cluster",
        "remote",
    },
    {"downsample", "plan_computed", "planestats", "admission"},
    {"levels", "planesummary", "cluster_run", "piecewise"},
    {"ome", "passes", "findings"},
    {"tiff", "store"},
    {"lazy", "execute", "block_groups", "sheet", "spilling"},
    {
        "write_tasks",
        "write_arguments",
        "write_begin",
        "write_run",
        "calibration",
        "filled",
        "preflight",
        "sampling",
        "direct",
    },
    {"qc_run", "tiff_rows"},
    {
        "readers",
        "channel_reader",
        "zarr_reader",
        "zarr_writer",
        "tiff_writer",
        "image_plan",
        "image_attributes",
    },
    {"image_run"},
    {"pyramid_writer"},
    {"jobs"},
    {"view"},
    {"cli", "napari_plugin"},
    {"__main__"},
]
FLOOR_OF = {entry: n for n, floor in enumerate(FLOORS) for entry in floor}

# Who may import a library when the program runs; type hints are free to name its types.
DOORS = {
    "tifffile": {"tiff"},
    "imagecodecs": {"tiff"},
    "zarr": {"store"},
    "numcodecs": {"store"},
    "fsspec": {"urls"},
    "click": {"cli"},
    "tqdm": {"progress"},
    "PIL": {"picture"},
    "neuroglancer": {"view"},
}
# Arithmetic and file formats know nothing of dask.
WITHOUT_DASK = {
    "errors",
    "human",
    "grid",
    "indexing",
    "source",
    "plan",
    "plan_computed",
    "sharding",
    "chunkbuffer",
    "integer_mean",
    "piecewise",
    "voxel",
    "amplification",
    "urls",
    "remote",
    "tiff",
    "store",
}


@dataclass(frozen=True)
class Import:
    target: str  # dotted, e.g. "scout_dask_io.core.grid"
    line: int
    typing_only: bool


def imports_of(code: str, module: str, *, is_package: bool = False) -> list[Import]:
    """Give every import in a module, those inside functions too; relative ones made absolute."""
    found: list[Import] = []

    def visit(node: ast.AST, typing_only: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, True)
            for child in node.orelse:
                visit(child, typing_only)
            return
        if isinstance(node, ast.Import):
            found.extend(Import(a.name, node.lineno, typing_only) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                up = parts[: len(parts) - node.level + is_package]
                base = ".".join([*up, base] if base else up)
            # `from pkg import name`: the name may be a module.
            found.extend(Import(f"{base}.{a.name}", node.lineno, typing_only) for a in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child, typing_only)

    visit(ast.parse(code), False)
    return found


def entry_of(dotted: str) -> str:
    """Give the part of the house that a dotted name belongs to, e.g. ``tiff``."""
    return dotted.split(".")[1]


def known_module(dotted: str) -> bool:
    path = PACKAGE.parent.joinpath(*dotted.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def faults(code: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Yield what is wrong with the imports of one module."""
    here = entry_of(module)
    for imp in imports_of(code, module, is_package=is_package):
        top, _, rest = imp.target.partition(".")
        where = f"{module}:{imp.line}"
        if top == ROOT:
            if rest == "" or (rest.count(".") == 0 and not known_module(imp.target)):
                yield f"{where} imports {imp.target} from the package root: name its own module"
                continue
            there = entry_of(imp.target)
            if there not in FLOOR_OF:
                yield f"{where} imports {there}, which is on no floor: add it to FLOORS"
            elif there != here and FLOOR_OF[there] >= FLOOR_OF[here]:
                yield f"{where} imports {there}, which is not on a floor below {here}"
        elif not imp.typing_only:
            if top in DOORS and here not in DOORS[top]:
                yield f"{where} imports {top}, which only {sorted(DOORS[top])} may"
            if top in {"dask", "distributed"} and here in WITHOUT_DASK:
                yield f"{where} imports {top}, but {here} is to know nothing of dask"


MODULES = {
    ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p
    for p in sorted(PACKAGE.rglob("*.py"))
    if p != PACKAGE / "__init__.py"
}
each_module = pytest.mark.parametrize("module", MODULES)


@each_module
def test_imports_go_down_only(module: str):
    path = MODULES[module]
    name = module.removesuffix(".__init__")
    assert entry_of(module) in FLOOR_OF, f"{module} is on no floor: add it to FLOORS"
    found = list(faults(path.read_text(), name, is_package=path.name == "__init__.py"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "code", "fault"),
    [
        ("grid", "from scout_dask_io.core.plan import x", "not on a floor below"),
        ("plan", "from scout_dask_io.core.source import Source", "not on a floor below"),
        ("tiff.describe", "def f():\n    from scout_dask_io.run.lazy import x", "not on a floor"),
        ("tiff.describe", "from ..store import nested", "not on a floor below"),
        ("tiff.describe", "from scout_dask_io import store", "not on a floor below"),
        ("readers", "from scout_dask_io import imread", "package root"),
        ("readers", "import scout_dask_io", "package root"),
        ("readers", "import tifffile", "only ['tiff'] may"),
        ("jobs.info", "def f():\n    import zarr.storage", "only ['store'] may"),
        ("plan", "import dask.array as da", "know nothing of dask"),
        ("tiff.encode", "from distributed import Client", "know nothing of dask"),
        ("readers", "from scout_dask_io.attic import x", "on no floor"),
        # Allowed.
        ("tiff.describe", "from .order import x\nfrom scout_dask_io.tiff.codec import y", None),
        ("tiff.describe", "import tifffile\nfrom scout_dask_io.core.grid import Shape", None),
        ("readers", "if TYPE_CHECKING:\n    import zarr", None),
        ("lazy", "import dask.array as da\nfrom scout_dask_io.core.source import Source", None),
    ],
)
def test_the_check_finds_what_it_should(module: str, code: str, fault: str | None):
    found = list(faults(code, f"{ROOT}.{module}"))
    if fault is None:
        assert found == []
    else:
        assert len(found) == 1
        assert fault in found[0]


@each_module
def test_each_library_that_is_imported_is_a_declared_dependency(module: str):
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *(extras["view"] if ".view." in module else ())]
    declared = {re.split(r"[^\w-]", d)[0].replace("-", "_") for d in named}
    declared |= {"PIL"} if "pillow" in declared else set()
    used = {i.target.partition(".")[0] for i in imports_of(MODULES[module].read_text(), module)}
    missing = used - declared - sys.stdlib_module_names - {ROOT}
    assert not missing, f"{module} imports {missing}: name them in pyproject.toml"


@each_module
def test_no_module_is_over_300_lines(module: str):
    lines = len(MODULES[module].read_text().splitlines())
    assert lines <= MAX_LINES, f"{module} has {lines} lines: split it"


@each_module
def test_whatever_is_public_has_a_docstring(module: str):
    tree = ast.parse(MODULES[module].read_text())
    bare = [] if ast.get_docstring(tree) or not tree.body else [module]
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            members = [node, *(node.body if isinstance(node, ast.ClassDef) else [])]
            bare += [
                f"{module}.{m.name}"
                for m in members
                if isinstance(m, (ast.FunctionDef, ast.ClassDef))
                and not m.name.startswith("_")
                and not ast.get_docstring(m)
                and not _is_overload_or_setter(m)
            ]
    assert not bare, f"without a docstring: {', '.join(bare)}"


def _is_overload_or_setter(node: ast.FunctionDef | ast.ClassDef) -> bool:
    marks = " ".join(ast.unparse(d) for d in node.decorator_list)
    return "overload" in marks or ".setter" in marks or "override" in marks


@each_module
def test_no_module_has_an_assert(module: str):
    # `python -O` drops them; what is checked is checked by an error with a message.
    found = [
        n.lineno
        for n in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(n, ast.Assert)
    ]
    assert not found, f"{module} has asserts at lines {found}"
