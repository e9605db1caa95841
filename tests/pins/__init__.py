"""What must not change by accident: costs that are counted, and what others rely on."""
