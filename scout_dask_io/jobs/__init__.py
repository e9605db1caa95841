"""The jobs: each one call, and each a command of ``scout-dask-io``."""
