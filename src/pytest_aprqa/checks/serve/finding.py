"""The two ways in which a gate of a server ends early."""

from __future__ import annotations


class Refuted(Exception):
    """The server does not do what the gate asserts; the message says what was seen."""


class NotApplicable(Exception):
    """The gate cannot be put to this server or model; the message says why."""
