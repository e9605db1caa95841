"""A view of volumes in the browser: lazy arrays served chunk by chunk to Neuroglancer."""
