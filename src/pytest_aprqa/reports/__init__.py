"""Domain objects in, text and files out."""
