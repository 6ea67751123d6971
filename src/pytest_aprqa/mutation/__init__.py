"""Mutation testing of a qualification: damage the model on purpose, and see what notices."""
