"""What bioio asks of a reader: ``BioImage(path)`` of a folder of planes, a TIFF or Zarr.

Source: bioio's plugins, the entry point ``bioio.readers`` and the abstract ``Reader`` of
bioio-base (https://github.com/bioio-devs/bioio-base). bioio alone imports this module.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import xarray
from bioio_base import constants, exceptions, reader, reader_metadata
from bioio_base.types import DimensionProperties, DimensionProperty, PhysicalPixelSizes, ureg

from scout_dask_io.core.image_info import Axis, ImageInfo
from scout_dask_io.core.selection import Selection
from scout_dask_io.errors import ScoutIOError
from scout_dask_io.files.location import is_path, locate
from scout_dask_io.read.any import kind_of, open_any
from scout_dask_io.read.data_array import to_xarray
from scout_dask_io.read.dataset import dataset_at
from scout_dask_io.run.lazy import source_of
from scout_dask_io.store.image import image_of_node
from scout_dask_io.store.metadata import read_node


class ReaderMetadata(reader_metadata.ReaderMetadata):
    """What bioio knows of the reader before it has a path."""

    @staticmethod
    def get_supported_extensions() -> list[str]:
        """Give the endings of names that may be read."""
        return [".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ome.zarr", ".zarr"]

    @staticmethod
    def supports_directory_images() -> bool:
        """Tell that folders, of planes and of channels, are read whatever they are called."""
        return True

    @staticmethod
    def get_reader() -> Any:
        """Give the reader."""
        return Reader


class Reader(reader.Reader):
    """A TIFF, a folder of planes, channels or a dataset, or Zarr; lazy, as :func:`to_xarray`.

    Positions of a dataset are scenes, levels of an OME-Zarr image its resolution levels.

    Parameters
    ----------
    image : path-like
        A path or a URL.
    pattern : str, optional
        As for :func:`imread_dataset`.
    fs_kwargs : dict, optional
        What fsspec needs to reach a URL.

    Raises
    ------
    UnsupportedFileFormatError
        If there is nothing that can be read.
    """

    def __init__(
        self, image: Any, pattern: str | None = None, fs_kwargs: dict[str, Any] | None = None
    ) -> None:
        self._place = locate(str(image), fs_kwargs or None)
        self._pattern = pattern
        try:
            kind = kind_of(self._place)
            grid = dataset_at(self._place, kind, Selection(pattern=pattern))
        except ScoutIOError as err:
            raise exceptions.UnsupportedFileFormatError(
                type(self).__name__, image, str(err)
            ) from err
        several = grid is not None and len(grid.positions) > 1
        self._positions = tuple(grid.positions) if several and grid is not None else ()
        node = read_node(self._place) if kind == "zarr" else None
        found = None if node is None else image_of_node(node)
        self._n_levels = 1 if found is None else len(found.levels)

    @staticmethod
    def _is_supported_image(fs: Any, path: str, **kwargs: Any) -> bool:
        return Reader.is_supported_image(fs.unstrip_protocol(path))

    @classmethod
    def is_supported_image(
        cls, image: Any, fs_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> bool:
        """Tell whether a path can be read; reads names, headers and metadata.

        Raises
        ------
        UnsupportedFileFormatError
            If it cannot, with the reason.
        """
        if not is_path(image):
            raise exceptions.UnsupportedFileFormatError(cls.__name__, str(type(image)))
        try:
            open_any(locate(str(image), fs_kwargs or None))
        except ScoutIOError as err:
            raise exceptions.UnsupportedFileFormatError(cls.__name__, str(image), str(err)) from err
        return True

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the positions; of what has none, one scene."""
        return self._positions or (self._place.name,)

    @property
    def resolution_levels(self) -> tuple[int, ...]:
        """Numbers of the levels, the full one first."""
        return tuple(range(self._n_levels))

    def _read_delayed(self) -> xarray.DataArray:
        position = self._positions[self._current_scene_index] if self._positions else None
        found = to_xarray(
            self._place,
            level=self._current_resolution_level,
            pattern=self._pattern,
            position=position,
        )
        attrs = {constants.METADATA_UNPROCESSED: dict(found.attrs)}
        array = found.rename({d: str(d).upper() for d in found.dims}).assign_attrs(attrs)
        array.attrs = attrs
        return array

    def _read_immediate(self) -> xarray.DataArray:
        found: xarray.DataArray = self._read_delayed().compute()
        return found

    def _axis(self, letter: str) -> Axis:
        source = source_of(self.xarray_dask_data.data)
        info = ImageInfo() if source is None else source.info
        return dict(zip(info.axes, info.measured, strict=False)).get(letter, Axis())

    @property
    def physical_pixel_sizes(self) -> PhysicalPixelSizes:
        """Steps along z, y and x, in the unit that the dimension properties name."""
        return PhysicalPixelSizes(*(self._axis(a).scale for a in "zyx"))

    @property
    def time_interval(self) -> timedelta | None:
        """The time step, where it is stated in a unit of time."""
        axis = self._axis("t")
        if axis.scale is None or axis.unit is None:
            return None
        try:
            return timedelta(seconds=float((axis.scale * ureg(axis.unit)).to("second").magnitude))
        except Exception:  # whatever pint raises of a unit that is none of time
            return None

    @property
    def dimension_properties(self) -> DimensionProperties:
        """What each dimension is, and its unit where one is stated."""
        kinds = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
        dims = {str(d).lower() for d in self.xarray_dask_data.dims}
        return DimensionProperties(
            *(DimensionProperty(kinds[a] if a in dims else None, self._unit(a)) for a in "tczyx")
        )

    def _unit(self, letter: str) -> Any:
        unit = self._axis(letter).unit
        try:
            return None if unit is None else ureg.Unit(unit)
        except Exception:  # whatever pint raises of a unit that it does not know
            return None
