"""Zarr on disk: layout, nested store, creation, chunk files, staging, journal."""
