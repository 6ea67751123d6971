"""Gates about the inside of a forward pass, and about what a pass takes."""
