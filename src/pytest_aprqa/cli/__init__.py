"""The `aprqa` command."""
