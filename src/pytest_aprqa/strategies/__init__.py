"""Hypothesis strategies for scenarios, and the generated scenarios of a run."""
