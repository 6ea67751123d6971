"""The checks: evidence about a model in, findings and verdicts out."""
