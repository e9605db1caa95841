"""Arrays as arithmetic: regions, sources, plans, levels, sizes. No files, no dask."""
