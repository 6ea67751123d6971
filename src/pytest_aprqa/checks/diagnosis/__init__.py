"""What became of a model's tensors and settings on their way into another file, by name."""
