"""Models behind HTTP: servers that are started here, and what a client may ask of any server."""
