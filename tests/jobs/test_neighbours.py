"""No verb removes or changes what lies beside what it was asked to write."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scout_dask_io as io

DATA = np.arange(3 * 10 * 9, dtype="u2").reshape(3, 10, 9)
NAMES = st.text(st.sampled_from("ab*?[]{}+%# é.-"), min_size=1, max_size=5).map("n{}m".format)


def below(place: str, but: tuple[str, ...]) -> dict[str, bytes]:
    """Give the bytes of every file that does not belong to one of some names."""
    fs, root = fsspec.core.url_to_fs(place) if "://" in place else (None, place)
    if fs is None:
        files = {str(p.relative_to(root)): p for p in Path(root).rglob("*") if p.is_file()}
        found = {name: p.read_bytes() for name, p in files.items()}
    else:
        found = {key[len(root) :].lstrip("/"): fs.store[key].getvalue() for key in fs.store
                 if key.startswith(root + "/")}  # fmt: skip
    return {k: v for k, v in found.items() if k.split("/")[0] not in but}


@pytest.mark.parametrize("where", ["disk", "memory"])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(names=st.lists(NAMES, min_size=3, max_size=3, unique=True))
def test_no_verb_touches_a_neighbour(
    tmp_path_factory: pytest.TempPathFactory, where: str, names: list[str]
) -> None:
    place = str(tmp_path_factory.mktemp("n"))
    if where == "memory":
        place = f"memory://{uuid.uuid4().hex}"
    source, image, mine = (f"{name}.zarr" for name in names)
    io.write_zarr(f"{place}/{source}", DATA, (2, 4, 4))
    io.write_ome_zarr(f"{place}/{image}", DATA, (2, 4, 4), levels=1)
    verbs: list[Any] = [
        lambda to, **how: io.convert(f"{place}/{source}", to, chunks=4, **how),
        lambda to, **how: io.convert(f"{place}/{source}", to, ome=True, levels=2, **how),
        lambda to, **how: io.pyramid(f"{place}/{source}", to, levels=2, **how),
        lambda to, **how: io.write_zarr(to, DATA + 1, **how),
    ]
    before = below(place, (mine,))
    for n, verb in enumerate(verbs):
        verb(f"{place}/{mine}", overwrite=n > 0)
        assert below(place, (mine,)) == before
    io.verify(f"{place}/{source}", f"{place}/{mine}")
    io.info(f"{place}/{mine}")
    own = {k: v for k, v in below(place, ()).items() if not k.startswith(f"{image}/labels/")}
    io.write_labels(f"{place}/{image}", "cells", DATA)
    io.write_labels(f"{place}/{image}", "others", DATA)
    first = below(place, ())
    io.write_labels(f"{place}/{image}", "cells", DATA + 1, overwrite=True)
    now = below(place, ())
    assert {k: v for k, v in now.items() if not k.startswith(f"{image}/labels/")} == own
    kept = f"{image}/labels/cells/"
    assert {k: v for k, v in now.items() if not k.startswith(kept)} == {
        k: v for k, v in first.items() if not k.startswith(kept)
    }
