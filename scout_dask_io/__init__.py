"""Lazy reading of microscopy TIFF planes, and chunk-aligned writing of Zarr.

``import scout_dask_io as io`` takes the place of ``import scout.io as io``: the
seven functions of that module keep their names, parameters and order, and give
lazy dask arrays where it gave arrays in memory.

Names are loaded when first used, so importing the package is quick and
changes no setting of any library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scout_dask_io.core.voxel_size import VoxelSize as VoxelSize
    from scout_dask_io.errors import ArgumentError as ArgumentError
    from scout_dask_io.errors import ChunkError as ChunkError
    from scout_dask_io.errors import ChunkReadError as ChunkReadError
    from scout_dask_io.errors import ClusterError as ClusterError
    from scout_dask_io.errors import LayoutError as LayoutError
    from scout_dask_io.errors import MemoryLimitError as MemoryLimitError
    from scout_dask_io.errors import PathNotFoundError as PathNotFoundError
    from scout_dask_io.errors import ResumeError as ResumeError
    from scout_dask_io.errors import ScoutIOError as ScoutIOError
    from scout_dask_io.errors import ShapeMismatchError as ShapeMismatchError
    from scout_dask_io.errors import SourceChangedError as SourceChangedError
    from scout_dask_io.errors import TargetExistsError as TargetExistsError
    from scout_dask_io.errors import TiffReadError as TiffReadError
    from scout_dask_io.errors import WriteError as WriteError
    from scout_dask_io.jobs.convert import convert as convert
    from scout_dask_io.jobs.export import export as export
    from scout_dask_io.jobs.follow import follow as follow
    from scout_dask_io.jobs.info import info as info
    from scout_dask_io.jobs.pyramid import pyramid as pyramid
    from scout_dask_io.jobs.repair import repair as repair
    from scout_dask_io.jobs.scan import scan as scan
    from scout_dask_io.jobs.update import update as update
    from scout_dask_io.jobs.verify import verify as verify
    from scout_dask_io.read.channels import channel_names as channel_names
    from scout_dask_io.read.channels import imread_channels as imread_channels
    from scout_dask_io.read.data_array import to_xarray as to_xarray
    from scout_dask_io.read.dataset import dataset_positions as dataset_positions
    from scout_dask_io.read.dataset import imread_dataset as imread_dataset
    from scout_dask_io.read.region import read_region as read_region
    from scout_dask_io.read.tiff import imread as imread
    from scout_dask_io.read.tiff import imread_folder as imread_folder
    from scout_dask_io.read.tiff import imread_parallel as imread_parallel
    from scout_dask_io.read.voxel_size import voxel_size as voxel_size
    from scout_dask_io.read.zarr import read_zarr as read_zarr
    from scout_dask_io.store.create import new_zarr as new_zarr
    from scout_dask_io.store.create import new_zarr_like as new_zarr_like
    from scout_dask_io.store.create import open as open
    from scout_dask_io.store.legacy_store import NestedDirectoryStore as NestedDirectoryStore
    from scout_dask_io.view.browser import viewer as viewer
    from scout_dask_io.view.preview import Preview as Preview
    from scout_dask_io.view.preview import preview as preview
    from scout_dask_io.write.labels import write_labels as write_labels
    from scout_dask_io.write.ome_zarr import write_ome_zarr as write_ome_zarr
    from scout_dask_io.write.pyramid_plan import plan_ome_zarr as plan_ome_zarr
    from scout_dask_io.write.tiff import imsave as imsave
    from scout_dask_io.write.zarr import plan_zarr as plan_zarr
    from scout_dask_io.write.zarr import write_zarr as write_zarr

__version__ = "0.1.0"

# Where each public name lives. The block above says the same to type checkers;
# a test holds the two against each other.
_HOMES = {
    "read.voxel_size": ("voxel_size",),
    "read.channels": ("channel_names", "imread_channels"),
    "errors": (
        "ArgumentError",
        "ChunkError",
        "ChunkReadError",
        "ClusterError",
        "LayoutError",
        "MemoryLimitError",
        "PathNotFoundError",
        "ResumeError",
        "ScoutIOError",
        "ShapeMismatchError",
        "SourceChangedError",
        "TargetExistsError",
        "TiffReadError",
        "WriteError",
    ),
    "write.pyramid_plan": ("plan_ome_zarr",),
    "jobs.convert": ("convert",),
    "jobs.export": ("export",),
    "jobs.follow": ("follow",),
    "jobs.update": ("update",),
    "jobs.info": ("info",),
    "view.preview": ("Preview", "preview"),
    "jobs.pyramid": ("pyramid",),
    "jobs.repair": ("repair",),
    "jobs.scan": ("scan",),
    "jobs.verify": ("verify",),
    "read.data_array": ("to_xarray",),
    "read.dataset": ("dataset_positions", "imread_dataset"),
    "read.region": ("read_region",),
    "write.labels": ("write_labels",),
    "write.ome_zarr": ("write_ome_zarr",),
    "read.tiff": ("imread", "imread_folder", "imread_parallel"),
    "store.create": ("new_zarr", "new_zarr_like", "open"),
    "store.legacy_store": ("NestedDirectoryStore",),
    "write.tiff": ("imsave",),
    "core.voxel_size": ("VoxelSize",),
    "view.browser": ("viewer",),
    "read.zarr": ("read_zarr",),
    "write.zarr": ("plan_zarr", "write_zarr"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    try:
        home = _HOME_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value  # the next look-up finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
