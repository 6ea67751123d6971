"""The arithmetic oracle: reads a question's expression, and the number an answer claims for it."""
