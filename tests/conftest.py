"""What all tests share: quiet, reproducible settings and no leftovers of dask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from hypothesis import HealthCheck, settings

# Examples are the same in every run, so a failure in CI is one that a developer sees too.
settings.register_profile(
    "house",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("house")


HERE = Path(__file__).resolve().parent
#: What tells the same on every Python: of the checkout itself, of processes that are killed, of
#: files that lie, of what a browser shows. CI asks these once, ``-m "not slow and not once"``.
ONCE = [
    "pins",
    *(f"reliability/test_{name}.py" for name in (
        "appends", "appends_in_stores", "chunk_fuzz", "environment", "faults", "fuzz", "kills",
        "odd_descriptions", "odd_documents", "races", "settled", "tiff_fuzz", "updates",
    )),
    "test_benchmarks.py",
    "test_conventions.py",
    "test_house.py",
    "test_notebooks.py",
    "test_oldest.py",
    "test_pictures.py",
    "test_scout.py",
    "view/test_browser.py",
]  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the suite run on a cluster: ``pytest --cluster tests/write/test_zarr.py``."""
    parser.addoption("--cluster", action="store_true", help="use a dask cluster of two processes")
    parser.addoption("--portable", action="store_true", help="without what Windows lacks")


def pytest_configure(config: pytest.Config) -> None:
    """Take away what Windows lacks, before a test imports the package: ``pytest --portable``."""
    if config.getoption("--portable"):
        import portable  # noqa: F401


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Skip a test that itself asks for what Windows lacks, or ``--portable`` has taken away."""
    try:
        return (yield)
    except Exception as err:
        if not pyfuncitem.config.getoption("--portable") and os.name != "nt":
            raise
        from portable import lacks

        if missing := lacks(err):
            pytest.skip(f"what the test asks for is not here: {missing}")
        raise


@pytest.fixture(scope="session", autouse=True)
def _cluster_of_two_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """With ``--cluster``, make a client the default scheduler of every test."""
    if not request.config.getoption("--cluster"):
        yield
        return
    from clusters import cluster

    with cluster(2):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is asked once, and skip what cannot be done here: without root, on a cluster."""
    once = {HERE / name for name in ONCE}
    for item in items:
        if once & {item.path, item.path.parent}:
            item.add_marker("once")
    if config.getoption("--portable") or os.name == "nt":
        for item in items:
            if "posix" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="asks for what Windows lacks"))
    if config.getoption("--cluster"):
        for item in items:
            if "in_process" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="watches calls in its own process"))
    if getattr(os, "geteuid", lambda: 1)() == 0:
        return
    for item in items:
        if "root" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs to be root"))


@pytest.fixture(autouse=True)
def _dask_config_is_restored() -> Iterator[None]:
    """Undo what a test sets in dask's configuration."""
    with dask.config.set():
        yield


@pytest.fixture(scope="session")
def processes() -> Iterator[dict[str, Any]]:
    """Settings of dask's scheduler of processes, with two that all tests of a run share."""
    from concurrent.futures import ProcessPoolExecutor

    from dask.multiprocessing import get_context, initialize_worker_process

    with ProcessPoolExecutor(2, get_context(), initialize_worker_process) as pool:
        yield {"scheduler": "processes", "pool": pool}


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """Address of an S3 server on loopback, one for all tests of a run."""
    from object_store import s3_server

    with s3_server() as address:
        yield address


@pytest.fixture
def bucket(s3_address: str) -> str:
    """Name of a new, empty bucket on the S3 server."""
    import uuid

    import s3fs
    from object_store import options

    name = f"lab-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(**options(s3_address)).mkdir(name)
    return name


@pytest.fixture
def lab(s3_address: str, bucket: str) -> Any:
    """Give a new bucket on the S3 server, and the ways in which tests look into it."""
    from object_store import Lab

    return Lab(s3_address, bucket)


@pytest.fixture
def memory() -> Iterator[Any]:
    """Give a new place in fsspec's store in memory, and what lies there."""
    from object_store import Memory

    made = Memory()
    yield made
    above = made.key.rpartition("/")[0]
    if made.fs.exists(above):
        made.fs.rm(above, recursive=True)


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Make the demonstration a small one, and give the shape of its channels."""
    from scout_dask_io.jobs import demo

    shape, real = (9, 40, 50), demo.organoid
    monkeypatch.setattr(demo, "organoid", lambda channel: real(channel, shape))
    return shape


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make writes and removals of objects fail when a test says so."""
    from object_store import Failing

    return Failing(monkeypatch)
