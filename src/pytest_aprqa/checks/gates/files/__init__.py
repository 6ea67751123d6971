"""Gates about files: what they hold, how it lies there, and whether they are safe to open."""
