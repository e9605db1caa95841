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
from functools import cache
from pathlib import Path

import pytest
from house_figures import figures, parameter_lists, parsed

ROOT = "scout_dask_io"
PACKAGE = Path(__file__).resolve().parent.parent / ROOT
MIN_LINES, MAX_LINES = 60, 600
# The one table of the house, from the ground up: what a room is for, and what it may import
# besides itself. ``CONTRIBUTING.md`` holds it as ``rooms_as_text`` prints it.
ROOMS: dict[str, tuple[str, set[str]]] = {
    "errors": ("exceptions; each is also a built-in one", set()),
    "core": ("arithmetic: regions, sources, plans, levels, sizes; no files, no dask", {"errors"}),
    "files": ("where bytes lie: local paths and URLs, atomic writes", {"errors", "core"}),
    "tiff": ("TIFF: headers, pages, sources, the writer", {"errors", "core", "files"}),
    "store": (
        "Zarr at rest: nodes, chunk formats, manifest, unfinished writes",
        {"errors", "core", "files"},
    ),
    "run": (
        "dask: threads or a cluster, memory, progress, scratch files",
        {"errors", "core", "files"},
    ),
    "read": (
        "files become lazy arrays",
        {"errors", "core", "files", "tiff", "store", "run"},
    ),
    "write": (
        "arrays become files; `write/qc` says what their planes are like",
        {"errors", "core", "files", "tiff", "store", "run", "read"},
    ),
    "jobs": (
        "convert, verify, info, scan, export, pyramid, repair, demo",
        {"errors", "core", "files", "tiff", "store", "run", "read", "write"},
    ),
    "view": (
        "pictures, the view in a browser, napari",
        {"errors", "core", "files", "tiff", "store", "run", "read"},
    ),
    "cli": (
        "the command line: the only text for people",
        {"errors", "core", "files", "tiff", "store", "run", "read", "write", "jobs", "view"},
    ),
}

# Who may import a library when the program runs; type hints are free to name its types.
DOORS = {
    "tifffile": {"tiff"},
    "imagecodecs": {"tiff"},
    "zarr": {"store"},
    "numcodecs": {"store"},
    "fsspec": {"files"},
    "dask": {"run", "read", "write", "jobs", "view", "cli"},
    "distributed": {"run", "cli"},
    "click": {"cli"},
    "tqdm": {"run"},
    "h5py": {"read"},
    "xarray": {"read"},
    "bioio_base": {"read"},
    "PIL": {"core"},
    "neuroglancer": {"view"},
}

# What libraries promise nothing of lies in one module a library, which says why it is needed.
# zarr, numcodecs and neuroglancer have none: their public names are enough.
PRIVATE = {
    "dask": f"{ROOT}.run._dask",
    "distributed": f"{ROOT}.run._distributed",
    "tifffile": f"{ROOT}.tiff._tifffile",
    "fsspec": f"{ROOT}.files.location",  # `_strip_protocol`: how else to ask for a URL's key
}
# Names without an underscore that are no more documented than those with one.
UNDOCUMENTED = (
    "dask.array.core.cached_cumsum",
    "dask.array.core.getter",
    "dask.base.get_scheduler",
    "dask.core",
    "distributed.scheduler",
    "distributed.worker",
    "zarr.core",
)
UNDOCUMENTED_ATTRIBUTES = {
    "erred_on": "distributed",
    "exception_blame": "distributed",
    "memory_manager": "distributed",
    "total_resources": "distributed",
    "TiffPage": "tifffile",
}
OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def rooms_as_text() -> str:
    """Give the table as ``CONTRIBUTING.md`` has it."""
    rows = ["| room | what is there | imports |", "|---|---|---|"]
    for room, (purpose, below) in ROOMS.items():
        names = ", ".join(r for r in ROOMS if r in below) or "nothing"
        rows.append(f"| `{room}` | {purpose} | {names} |")
    return "\n".join(rows) + "\n"


@dataclass(frozen=True)
class Import:
    target: str  # dotted, e.g. "scout_dask_io.core.grid"
    line: int
    typing_only: bool


@cache
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

    visit(parsed(code), False)
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
            if there not in ROOMS:
                yield f"{where} imports {there}, which is no room: add it to ROOMS"
            elif there != here and there not in ROOMS[here][1]:
                yield f"{where} imports {there}, which {here} may not"
        elif not imp.typing_only and top in DOORS and here not in DOORS[top]:
            yield f"{where} imports {top}, which only {sorted(DOORS[top])} may"


MODULES = {
    ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p
    for p in sorted(PACKAGE.rglob("*.py"))
    if p not in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")
}
each_module = pytest.mark.parametrize("module", MODULES)


def test_there_are_eleven_rooms_and_nothing_loose_beside_them():
    entries = {p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    rest = {"__init__.py", "__main__.py", "py.typed", "napari.yaml"}
    assert entries - rest == {"errors.py", *(r for r in ROOMS if r != "errors")}
    assert len(ROOMS) == 11


def test_rooms_import_only_from_rooms_above_them_in_the_table():
    seen: set[str] = set()
    for room, (_, below) in ROOMS.items():
        assert below <= seen, f"{room} may import {below - seen}, which stand below it"
        seen.add(room)


@each_module
def test_a_room_imports_only_what_the_table_says(module: str):
    path = MODULES[module]
    name = module.removesuffix(".__init__")
    assert entry_of(module) in ROOMS, f"{module} is in no room: add it to ROOMS"
    found = list(faults(path.read_text(), name, is_package=path.name == "__init__.py"))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "code", "fault"),
    [
        ("core.grid", "from scout_dask_io.files.disk import x", "which core may not"),
        ("tiff.describe", "def f():\n    from scout_dask_io.run.lazy import x", "tiff may not"),
        ("tiff.describe", "from ..store import legacy_store", "tiff may not"),
        ("tiff.describe", "from scout_dask_io import store", "tiff may not"),
        ("view.preview", "from scout_dask_io.jobs.info import info", "view may not"),
        (
            "read.tiff",
            "if TYPE_CHECKING:\n    from scout_dask_io.write.zarr import x",
            "read may not",
        ),
        ("read.tiff", "from scout_dask_io import imread", "package root"),
        ("read.tiff", "import scout_dask_io", "package root"),
        ("read.tiff", "import tifffile", "only ['tiff'] may"),
        ("jobs.info", "def f():\n    import zarr.storage", "only ['store'] may"),
        ("core.plan", "import dask.array as da", "imports dask"),
        ("tiff.encode", "from distributed import Client", "imports distributed"),
        ("read.tiff", "from scout_dask_io.attic import x", "is no room"),
        # Allowed.
        ("tiff.describe", "from .folder import x\nfrom scout_dask_io.tiff.codec import y", None),
        ("tiff.describe", "import tifffile\nfrom scout_dask_io.core.grid import Shape", None),
        ("read.tiff", "if TYPE_CHECKING:\n    import zarr", None),
        ("run.lazy", "import dask.array as da\nfrom scout_dask_io.core.source import x", None),
    ],
)
def test_the_check_finds_what_it_should(module: str, code: str, fault: str | None):
    found = list(faults(code, f"{ROOT}.{module}"))
    if fault is None:
        assert found == []
    else:
        assert len(found) == 1
        assert fault in found[0]


def test_no_modules_import_one_another():
    assert figures(PACKAGE).cycles == []


def test_local_and_remote_are_told_apart_in_files():
    counted = figures(PACKAGE)
    assert counted.isinstance_of_places <= 10
    assert counted.isinstance_of_places_outside_files == 0
    assert counted.any_for_staging == 0


def test_inner_functions_have_at_most_eight_parameters():
    counted = figures(PACKAGE)
    assert counted.inner_functions_over_8_parameters == 0, counted.longest_inner_parameters


def test_parameters_are_counted_wherever_a_function_stands():
    code = "if x:\n    class A:\n        with y:\n            def f(self, a, *, b): ...\n"
    code += "def g():\n    for k in z:\n        async def h(a, /, *rest, **others): ...\n"
    found = {name: n for n, name in parameter_lists({"m": ast.parse(code)})}
    assert found == {"m.A.f": 2, "m.g": 0, "m.g.h": 1}


def test_contributing_names_modules_that_are_there():
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    rooms = "|".join(ROOMS)
    named = set(re.findall(rf"`((?:{rooms})/[a-z_0-9/]+\.py)`", text))
    assert len(named) > 30
    assert not [n for n in sorted(named) if not (PACKAGE / n).is_file()]


def test_contributing_holds_the_table_of_rooms():
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    assert rooms_as_text() in text, "CONTRIBUTING.md is to hold:\n" + rooms_as_text()


@each_module
def test_each_library_that_is_imported_is_a_declared_dependency(module: str):
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [*project["dependencies"], *(extras["view"] if ".view." in module else ())]
    if ".read." in module:
        named += [*extras["hdf5"], *extras["xarray"], *extras["bioio"]]
    named += extras["s3"] if ".files." in module else []
    declared = {re.split(r"[^\w-]", d)[0].replace("-", "_") for d in named}
    declared |= {"PIL"} if "pillow" in declared else set()
    declared |= {"botocore"} if "s3fs" in declared else set()  # it comes with it, of its version
    used = {i.target.partition(".")[0] for i in imports_of(MODULES[module].read_text(), module)}
    missing = used - declared - sys.stdlib_module_names - {ROOT}
    assert not missing, f"{module} imports {missing}: name them in pyproject.toml"


@each_module
def test_only_the_root_and_the_command_line_list_what_they_export(module: str):
    tree = parsed(MODULES[module].read_text())
    lists = [n for n in tree.body if isinstance(n, ast.Assign) and "__all__" in ast.unparse(n)]
    assert not lists, f"{module} has __all__: an underscore is private"


@each_module
def test_a_module_that_is_very_long_or_short_says_why(module: str):
    path = MODULES[module]
    lines = path.read_text().splitlines()
    if path.name == "__init__.py" or MIN_LINES <= len(lines) <= MAX_LINES:
        return
    why = "Why it is long:" if len(lines) > MAX_LINES else "Why it is short:"
    doc = ast.get_docstring(ast.parse("\n".join(lines))) or ""
    assert why in doc, f"{module} has {len(lines)} lines, and its docstring no '{why}'"


@each_module
def test_whatever_is_public_has_a_docstring(module: str):
    tree = parsed(MODULES[module].read_text())
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
        n.lineno for n in ast.walk(parsed(MODULES[module].read_text())) if isinstance(n, ast.Assert)
    ]
    assert not found, f"{module} has asserts at lines {found}"


def test_tests_run_wherever_pytest_was_called():
    """``pytest`` puts ``tests/`` on the path, ``python -m pytest`` the checkout as well."""
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            roots = {name.split(".")[0] for name in names}
            assert not roots & {"tests", "benchmarks"}, f"{path}:{node.lineno}"
