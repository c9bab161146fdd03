"""Audit of the paper's printed numbers: rules that they have to obey, and where they do not."""
