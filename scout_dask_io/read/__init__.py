"""Files become lazy arrays."""
