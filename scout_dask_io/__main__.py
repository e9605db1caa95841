"""``python -m scout_dask_io``: the command line."""

from scout_dask_io.cli import main

if __name__ == "__main__":
    main()
