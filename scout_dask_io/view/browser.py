"""The page: what is opened, how it is shown, and where. Needs the ``neuroglancer`` package."""

from __future__ import annotations

import html
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from scout_dask_io.core.contrast import contrast_limits
from scout_dask_io.core.image_info import WHITE, channel_colors
from scout_dask_io.core.selection import Selection
from scout_dask_io.core.voxel_size import VoxelSizeLike, as_voxel_size
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import is_path
from scout_dask_io.read.any import locate_all
from scout_dask_io.read.volume import Volume, open_volume
from scout_dask_io.view.server import VolumeServer
from scout_dask_io.view.volume import ServedVolume

# Pixels along the longer side of a cross-section when the page opens, all volumes together.
ACROSS = 500


@dataclass(frozen=True, slots=True)
class _Volume:
    """What was given, opened: one image, one layer a channel.

    Colours and contrast are as its metadata state them, as many as layers; ``None`` is grey, or
    contrast that is yet to be measured. Labels have neither: each value has a colour of its own.
    """

    name: str
    layers: tuple[ServedVolume, ...]
    keys: tuple[str, ...]
    colors: tuple[str | None, ...]
    windows: tuple[tuple[float, float] | None, ...]
    is_labels: bool = False


class View:
    """A view that is being served; it ends with `close`, or with the program.

    In a notebook it shows itself. As a context manager it closes at the end.

    Attributes
    ----------
    url : str
        The address of the page, with its token.
    """

    def __init__(self, volumes: Sequence[_Volume], host: str, port: int) -> None:
        neuroglancer = _neuroglancer()
        layers = {key: layer for v in volumes for key, layer in zip(v.keys, v.layers, strict=True)}
        shown_host = _reachable(host)
        self._server = VolumeServer(layers, host)
        try:
            # Of this view alone: the package's own server is one for the whole process, with
            # one address, and stops for all views at once.
            self._page = neuroglancer.server.Server(host, port)
        except BaseException as err:
            self._server.close()
            if isinstance(err, OSError):
                raise ArgumentError(f"cannot listen on {host}:{port}: {err}") from err
            raise
        try:
            self._viewer = neuroglancer.viewer_base.ViewerBase()
            with self._viewer.txn() as state:
                _fill(state, volumes, lambda key: self._server.url(key, shown_host), neuroglancer)
            self._page.viewers[self._viewer.token] = self._viewer
        except BaseException:
            self.close()
            raise
        self.url = f"http://{shown_host}:{self._page.port}/v/{self._viewer.token}/"

    def close(self) -> None:
        """Stop serving this view; others go on."""
        self._server.close()
        self._page.stop()
        self._page.executor.shutdown(wait=False)

    def __enter__(self) -> View:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<View at {self.url}>"

    def _repr_html_(self) -> str:
        address = html.escape(self.url, quote=True)
        return (
            f'<a href="{address}" target="_blank">{address}</a><br>'
            f'<iframe src="{address}" width="100%" height="600" style="border:0"></iframe>'
        )


def viewer(
    *what: Any,
    voxel_size: VoxelSizeLike = None,
    order: str = "alphabetical",
    pattern: str | None = None,
    position: str | None = None,
    names: str = "allow",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    host: str = "127.0.0.1",
    port: int = 0,
    storage_options: Mapping[str, Any] | None = None,
) -> View:
    """Show volumes in the browser, side by side, without reading more than is looked at.

    Serves each to Neuroglancer, whose page comes from the ``neuroglancer``
    package: nothing is fetched from other hosts. A chunk is read from the files
    when it is on the screen, two at a time. Levels of an OME-Zarr image are
    used, and so are the colours and the contrast that its metadata state; of
    other volumes, coarser views leave voxels out, as far as one of their chunks
    makes no more than 128 MB be read, and contrast follows percentiles. Each label
    of an image of labels has a colour.

    Parameters
    ----------
    *what : path-like, dask or numpy array
        A TIFF file, a folder of planes or of channels, a Zarr array, an OME-Zarr
        image, the URL of one, or an array ``(y, x)``, ``(z, y, x)`` or ``(c, z, y, x)``.
    voxel_size : sequence of float, optional
        ``(z, y, x)`` in micrometres, instead of what the volumes state.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    pattern, position, names
        How the files of datasets are read, as for :func:`~scout_dask_io.convert`.
    series, pages, allow_sparse
        Which image and which pages of TIFF files, as for :func:`~scout_dask_io.imread_folder`.
    host : str
        Address to listen on. Whoever reaches it needs the token too.
    port : int
        Of the page; 0 is any that is free.
    storage_options : dict, optional
        What fsspec needs to reach those that are URLs.

    Returns
    -------
    View
        Its ``url`` is the page's address; in a notebook it shows itself.

    Raises
    ------
    ArgumentError
        If nothing is given, the ``neuroglancer`` package is missing, an array has
        other axes, or it cannot listen there.
    PathNotFoundError, TiffReadError, LayoutError
        If a path cannot be read.
    """
    _neuroglancer()
    if not what:
        raise ArgumentError("nothing to view: give a path or an array")
    size = as_voxel_size(voxel_size)
    how = Selection(
        order, pattern=pattern, position=position, names=names,
        series=series, pages=pages, allow_sparse=allow_sparse,
    )  # fmt: skip
    paths = iter(locate_all(*filter(is_path, what), storage_options))
    found = [next(paths) if is_path(w) else w for w in what]
    volumes = [open_volume(w, f"array {k}", how, voxel_size=size) for k, w in enumerate(found)]
    return View([_shown(k, volume) for k, volume in enumerate(volumes)], host, port)


def _neuroglancer() -> Any:
    try:
        import neuroglancer
    except ImportError as err:
        raise ArgumentError(
            "the viewer needs the package neuroglancer, which is not there: "
            "pip install 'scout-dask-io[view]'"
        ) from err
    return neuroglancer


def _shown(number: int, found: Volume) -> _Volume:
    info, n_channels = found.info, len(found.info.channels)
    layers = tuple(
        ServedVolume(
            f"{found.name} {info.names[c]}" if n_channels > 1 else found.name,
            found.levels,
            found.scales,
            found.translations,
            unit=found.unit,
            channel=c,
        )
        for c in range(n_channels)
    )
    colors = channel_colors(info.colors, n_channels)
    return _Volume(
        found.name,
        layers,
        keys=tuple(f"v{number}c{c}" for c in range(n_channels)),
        colors=(None,) if colors == (WHITE,) else tuple(f"#{color}" for color in colors),
        windows=info.windows,
        is_labels=info.labels and found.levels[0].dtype.kind in "iub",
    )


def _fill(state: Any, volumes: Sequence[_Volume], url: Any, neuroglancer: Any) -> None:
    """Describe the page: a layer a channel, the first volume in the middle, panels side by side."""
    first = volumes[0].layers[0]
    scale = first.scale[::-1]
    known = first.unit is not None
    state.dimensions = neuroglancer.CoordinateSpace(
        names=["x", "y", "z"],
        units=["um"] * 3 if known else [""] * 3,
        scales=list(scale),
    )
    extents = first.level_shape(0)[::-1]
    state.position = [n / 2 for n in extents]
    finest = min(scale)
    longest = max(n * s for n, s in zip(extents, scale, strict=True)) / finest
    state.cross_section_scale = longest / ACROSS * len(volumes)
    state.projection_scale = longest * 1.4
    state.show_slices = True
    if any(volume.is_labels for volume in volumes):
        # It shows through what has no label.
        state.cross_section_background_color = "#000000"
    names: list[list[str]] = []
    for volume in volumes:
        group: list[str] = []
        for key, layer, color, window in zip(
            volume.keys, volume.layers, volume.colors, volume.windows, strict=True
        ):
            name = _unused(layer.name, [n for g in (*names, group) for n in g])
            group.append(name)
            source = f"zarr2://{url(key)}"
            if volume.is_labels:
                shown = neuroglancer.SegmentationLayer(source=source, selected_alpha=1.0)
            else:
                shown = neuroglancer.ImageLayer(
                    source=source,
                    shader=_shader(color),
                    shader_controls={"normalized": {"range": _contrast(layer, window)}},
                    blend="additive",
                    opacity=1.0,
                )
            state.layers.append(name=name, layer=shown)
        names.append(group)
    panels = [neuroglancer.LayerGroupViewer(layers=group, layout="4panel") for group in names]
    state.layout = panels[0] if len(panels) == 1 else neuroglancer.row_layout(panels)


def _unused(name: str, used: Sequence[str]) -> str:
    found, number = name, 2
    while found in used:
        found, number = f"{name} ({number})", number + 1
    return found


def _shader(color: str | None) -> str:
    controls = "#uicontrol invlerp normalized\n"
    if color is None:
        return controls + "void main() { emitGrayscale(normalized()); }\n"
    return (
        f'{controls}#uicontrol vec3 color color(default="{color}")\n'
        "void main() { emitRGB(color * normalized()); }\n"
    )


def _contrast(layer: ServedVolume, stated: tuple[float, float] | None) -> list[float]:
    """Give the values that are black and full colour: as stated, or by a sample, which is read."""
    if stated is None:
        stated = contrast_limits([layer.sample()])
    # Neuroglancer takes whole numbers alone for integers.
    low, high = map(round, stated) if layer.dtype.kind in "iu" else stated
    return [low, high if high > low else low + 1]


def _reachable(host: str) -> str:
    """Give the name by which others reach what listens on ``host``."""
    return socket.getfqdn() if host in ("", "0.0.0.0", "::") else host
