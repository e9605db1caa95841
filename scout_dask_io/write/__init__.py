"""Arrays become files."""
