"""Where bytes lie: local paths, and URLs of object stores and other file systems."""
