"""What all tests share: quiet, reproducible settings and no leftovers of dask."""

from __future__ import annotations

import os
from collections.abc import Iterator

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what only root can do where the tests do not run as root."""
    if os.geteuid() == 0:
        return
    for item in items:
        if "root" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs to be root"))


@pytest.fixture(autouse=True)
def _dask_config_is_restored() -> Iterator[None]:
    """Undo what a test sets in dask's configuration."""
    with dask.config.set():
        yield
