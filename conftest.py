"""Shared by every test: `pytester` to run the plugin, and Hypothesis settings that repeat."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["pytester"]

settings.register_profile("aprqa", derandomize=True, deadline=None, database=None)
settings.load_profile("aprqa")
