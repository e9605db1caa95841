"""On dask: threads or a cluster, memory, progress, scratch files."""
