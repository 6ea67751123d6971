"""Readers and writers of files: playbooks and model weights."""
