"""The only package that knows pytest; it uses pytest's public names alone."""
