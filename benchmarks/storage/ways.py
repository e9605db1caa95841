"""The ways in which arrays and planes are read and written, each a function of one request.

A request says where the planes and the array are: ``planes`` and ``array`` are paths, or
``s3://`` URLs of the server at ``endpoint``. Every way gives a number by which runs are compared:
what was read summed, or 0 of a write, whose array is summed afterwards.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

CODEC = {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2, "blocksize": 0}
CHUNKS = (64, 64, 64)
REGION = "us-east-1"
#: What bare reads have in flight.
BARE = 64

Request = dict[str, Any]
Work = Callable[[], int]


def names_of(request: Request) -> list[str]:
    """Give the names of the planes."""
    return [f"z{z:05d}.tif" for z in range(request["shape"][0])]


def s3_options(request: Request) -> dict[str, Any]:
    """Give fsspec's options for the server; none for what lies on a disk."""
    if not str(request.get("endpoint") or ""):
        return {}
    return {"key": "test", "secret": "test", "endpoint_url": request["endpoint"]}


def _options(request: Request, where: str) -> dict[str, Any] | None:
    return s3_options(request) if str(request[where]).startswith("s3://") else None


# --- ours -------------------------------------------------------------------------------------


def ours(request: Request) -> Work:
    """Give the work of a case as this library does it."""
    import scout_dask_io as io

    case, array = request["case"], request["array"]
    there = _options(request, "array")
    workers = request["n_workers"]
    limit = {"max_mem": request.get("max_mem", "1GB"), "nb_workers": workers}

    def planes() -> Any:
        return io.imread_folder(
            request["planes"], nb_workers=None, storage_options=_options(request, "planes")
        )

    def write() -> int:
        io.write_zarr(array, planes(), CHUNKS, overwrite=True, storage_options=there, **limit)
        return 0

    def ome() -> int:
        io.write_ome_zarr(array, planes(), CHUNKS, overwrite=True, storage_options=there, **limit)
        return 0

    def lazy() -> Any:
        return io.read_zarr(array, storage_options=there)

    def whole() -> int:
        return int(lazy().sum(dtype="u8").compute(num_workers=workers))

    def boxes() -> int:
        found = lazy()
        return sum(int(io.read_region(found, b).sum(dtype="u8")) for b in boxes_of(request))

    def batch() -> int:
        found = lazy()
        return sum(int(b.sum(dtype="u8")) for b in io.read_region(found, boxes_of(request)))

    def plane() -> int:
        return int(lazy()[request["shape"][0] // 2].sum(dtype="u8").compute())

    def opened() -> int:
        return lazy().shape[0]

    def info() -> int:
        return len(str(io.info(array, storage_options=there))) * 0

    def verify() -> int:
        report = io.verify(array, storage_options=there)
        return 0 if report.ok else 1

    def index() -> int:
        return planes().shape[0]

    def index_first() -> int:
        return io.imread_folder(request["planes"], check="first").shape[0]

    works: dict[str, Work] = {
        "write": write,
        "ome": ome,
        "whole": whole,
        "boxes": boxes,
        "batch": batch,
        "plane": plane,
        "open": opened,
        "info": info,
        "verify": verify,
        "index": index,
        "index-first": index_first,
    }
    return works[case]


def boxes_of(request: Request) -> list[tuple[slice, ...]]:
    """Give boxes of one chunk's extent that begin anywhere, the same in every run."""
    rng = np.random.default_rng(7)
    shape = request["shape"]
    boxes = []
    for _ in range(request.get("n_boxes", 60)):
        starts = [
            int(rng.integers(0, max(1, n - c + 1))) for n, c in zip(shape, CHUNKS, strict=True)
        ]
        boxes.append(
            tuple(slice(s, s + min(c, n)) for s, c, n in zip(starts, CHUNKS, shape, strict=True))
        )
    return boxes


# --- peers ------------------------------------------------------------------------------------


def slabs_of(request: Request) -> list[tuple[int, int]]:
    """Give the bounds of slabs of one chunk's planes."""
    n = request["shape"][0]
    return [(z, min(z + CHUNKS[0], n)) for z in range(0, n, CHUNKS[0])]


def read_slab(request: Request, start: int, stop: int) -> np.ndarray:
    """Read planes from a disk with tifffile."""
    import tifffile

    names = names_of(request)[start:stop]
    return np.stack([tifffile.imread(f"{request['planes']}/{n}") for n in names])


def by_slabs(request: Request, array: Any, assign: Callable[[Any, slice, np.ndarray], None]) -> int:
    """Write slabs of whole planes, as many at a time as there are workers."""

    def one(bounds: tuple[int, int]) -> None:
        assign(array, slice(*bounds), read_slab(request, *bounds))

    with ThreadPoolExecutor(request["n_workers"]) as pool:
        list(pool.map(one, slabs_of(request)))
    return 0


def read_with(request: Request, array: Any, get: Callable[[Any, Any], np.ndarray]) -> int:
    """Carry out a case that reads."""
    case = request["case"]
    if case == "plane":
        return int(get(array, request["shape"][0] // 2).sum(dtype="u8"))
    if case == "whole":
        with ThreadPoolExecutor(request["n_workers"]) as pool:
            sums = pool.map(lambda b: int(get(array, slice(*b)).sum(dtype="u8")), slabs_of(request))
            return sum(sums)
    if case == "open":
        return int(array.shape[0])
    return sum(int(get(array, b).sum(dtype="u8")) for b in boxes_of(request))


def tensorstore(request: Request) -> Work:
    """TensorStore, in slabs of whole planes."""
    import tensorstore as ts

    def opened(create: bool) -> Any:
        kvstore: dict[str, Any] = {"driver": "file", "path": str(request["array"])}
        if _options(request, "array") is not None:
            bucket, _, path = request["array"][5:].partition("/")
            kvstore = {
                "driver": "s3",
                "bucket": bucket,
                "path": f"{path}/",
                "endpoint": request["endpoint"],
                "aws_region": REGION,
                "aws_credentials": {"type": "anonymous"},
            }
        spec: dict[str, Any] = {
            "driver": "zarr",
            "kvstore": kvstore,
            "context": {
                "data_copy_concurrency": {"limit": request["n_workers"]},
                "cache_pool": {"total_bytes_limit": 0},
            },
        }
        if create:
            spec["metadata"] = {
                "shape": list(request["shape"]),
                "chunks": list(CHUNKS),
                "dtype": "<u2",
                "compressor": CODEC,
                "fill_value": 0,
                "order": "C",
                "dimension_separator": "/",
            }
        # With ``open`` it would write into an array that stands, and delete nothing.
        return ts.open(spec, create=create, delete_existing=create, open=not create).result()

    def write() -> int:
        return by_slabs(request, opened(True), lambda a, z, slab: a[z].write(slab).result())

    def read() -> int:
        array = opened(False)
        if request["case"] == "batch":
            with ts.Batch() as batch:
                asked = [array[b].read(batch=batch) for b in boxes_of(request)]
            return sum(int(a.result().sum(dtype="u8")) for a in asked)
        return read_with(request, array, lambda a, where: a[where].read().result())

    return write if request["case"] == "write" else read


def _zarr_array(request: Request, store: Any, create: bool) -> Any:
    import numcodecs
    import zarr

    if not create:
        return zarr.open_array(store, mode="r", zarr_format=2)
    return zarr.create_array(
        store,
        shape=tuple(request["shape"]),
        chunks=CHUNKS,
        dtype="<u2",
        compressors=numcodecs.get_codec(dict(CODEC)),
        fill_value=0,
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
        overwrite=True,
    )


def _obstore(request: Request, where: str) -> Any:
    from obstore.store import S3Store

    bucket, _, path = request[where][5:].partition("/")
    return S3Store(
        bucket,
        prefix=path,
        endpoint=request["endpoint"],
        access_key_id="test",
        secret_access_key="test",
        region=REGION,
        client_options={"allow_http": True},
    )


def zarr_obstore(request: Request) -> Work:
    """zarr-python on obstore, or on the disk, in slabs of whole planes."""
    import zarr

    def opened(create: bool) -> Any:
        if _options(request, "array") is None:
            return _zarr_array(request, str(request["array"]), create)
        from zarr.storage import ObjectStore

        return _zarr_array(request, ObjectStore(_obstore(request, "array")), create)

    zarr.config.set({"async.concurrency": 64})

    def write() -> int:
        return by_slabs(request, opened(True), lambda a, z, slab: a.__setitem__(z, slab))

    if request["case"] == "write":
        return write
    return lambda: read_with(request, opened(False), lambda a, where: np.asarray(a[where]))


def zarr_s3fs(request: Request) -> Work:
    """zarr-python on s3fs under dask, as tutorials do it."""
    import dask.array as da
    import s3fs  # noqa: F401  # before the clock starts
    from zarr.storage import FsspecStore

    def opened(create: bool) -> Any:
        store = FsspecStore.from_url(request["array"], storage_options=s3_options(request))
        return _zarr_array(request, store, create)

    def write() -> int:
        names = names_of(request)
        array = opened(True)
        plane = tuple(request["shape"][1:])

        def read(block_id: tuple[int, ...]) -> np.ndarray:
            import tifffile

            return np.asarray(tifffile.imread(f"{request['planes']}/{names[block_id[0]]}"))[None]

        planes = da.map_blocks(
            read,
            chunks=((1,) * len(names), (plane[0],), (plane[1],)),
            dtype="u2",
            meta=np.empty((0, 0, 0), "u2"),
        )
        da.store(planes.rechunk(CHUNKS), array, lock=False, num_workers=request["n_workers"])
        return 0

    def whole() -> int:
        lazy = da.from_array(opened(False), chunks=CHUNKS)
        return int(lazy.sum(dtype="u8").compute(num_workers=request["n_workers"]))

    if request["case"] == "write":
        return write
    if request["case"] == "whole":
        return whole
    return lambda: read_with(request, opened(False), lambda a, where: np.asarray(a[where]))


def fsspec_tifffile(request: Request) -> Work:
    """Planes of a store by fsspec and tifffile in eight threads, written with zarr-python."""
    import io as stdio

    import fsspec
    import s3fs  # noqa: F401  # before the clock starts
    import tifffile

    def plane(fs: Any, name: str) -> np.ndarray:
        data = fs.cat_file(f"{request['planes'][5:]}/{name}")
        return np.asarray(tifffile.imread(stdio.BytesIO(data)))

    def write() -> int:
        fs = fsspec.filesystem("s3", **s3_options(request))
        array = _zarr_array(request, str(request["array"]), True)
        names = names_of(request)
        with ThreadPoolExecutor(8) as pool:
            for start, stop in slabs_of(request):
                array[start:stop] = np.stack(
                    list(pool.map(lambda n: plane(fs, n), names[start:stop]))
                )
        return 0

    return write


def tifffile_index(request: Request) -> Work:
    """tifffile's lazy array of all planes, which looks at the first file alone."""
    import tifffile

    def index() -> int:
        names = [f"{request['planes']}/{n}" for n in names_of(request)]
        store = tifffile.imread(names, aszarr=True)
        store.close()
        return len(names)

    return index


def bare(request: Request) -> Work:
    """No array at all: the objects, or the files, as fast as the storage gives them."""
    if request["case"].startswith("index"):
        import os

        return lambda: sum(
            os.stat(f"{request['planes']}/{n}").st_size > 0 for n in names_of(request)
        )
    if _options(request, "planes") is None and request["case"] == "write":

        def cat() -> int:
            names = [f"{request['planes']}/{n}" for n in names_of(request)]
            subprocess.run(["cat", *names], stdout=subprocess.DEVNULL, check=True)
            return 0

        return cat
    import obstore

    where = "planes" if request["case"] == "write" else "array"

    def gets() -> int:
        store = _obstore(request, where)

        async def every() -> None:
            names = [o["path"] for batch in store.list() for o in batch]
            window = asyncio.Semaphore(BARE)

            async def one(name: str) -> None:
                async with window:
                    await (await obstore.get_async(store, name)).bytes_async()

            await asyncio.gather(*map(one, names))

        asyncio.run(every())
        return 0

    return gets


WAYS: dict[str, Callable[[Request], Work]] = {
    "ours": ours,
    "tensorstore": tensorstore,
    "zarr-obstore": zarr_obstore,
    "zarr-s3fs": zarr_s3fs,
    "fsspec-tifffile": fsspec_tifffile,
    "tifffile-index": tifffile_index,
    "bare": bare,
}
