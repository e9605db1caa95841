"""``view``: volumes in the browser.

Why it is short: a group of commands has a module.
"""

from __future__ import annotations

import threading
import webbrowser
from typing import Any

import click

from scout_dask_io.cli.base import command, flag, path_argument, print_report
from scout_dask_io.cli.options import order, selection, storage_options, voxel_size


@command(
    path_argument("paths", nargs=-1, required=True, metavar="PATH..."),
    voxel_size,
    order,
    selection,
    click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
                 help="Address to listen on; 0.0.0.0 lets other machines in that know the token."),
    click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="PORT",
                 show_default="any that is free", help="Port of the page."),
    storage_options,
    flag("--open", "open_browser", help="Open the page in this machine's browser."),
)  # fmt: skip
def view(paths: tuple[str, ...], open_browser: bool, as_json: bool, **options: Any) -> None:
    """Show volumes in the browser: TIFF, Zarr or OME-Zarr.

    Several stand side by side; any may lie at a URL. Prints an address to open,
    and serves it until Ctrl-C. Only what is on the screen is read. Needs the extra:
    pip install 'scout-dask-io[view]'.

    For example:
      scout-dask-io view brain.zarr
      scout-dask-io view brain/ch0 ch0.zarr --voxel-size 5,2,2
      ssh -L 8080:127.0.0.1:8080 server scout-dask-io view brain.zarr --port 8080
    """
    try:
        from scout_dask_io.view.browser import viewer

        with viewer(*paths, **options) as shown:
            print_report({"url": shown.url}, as_json, text=f"{shown.url}\nCtrl-C ends it.")
            if open_browser:
                webbrowser.open(shown.url)
            threading.Event().wait()
    except KeyboardInterrupt:  # while volumes are still being opened, too
        click.echo(err=True)
