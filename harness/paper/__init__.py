"""Data of the paper: its printed tables, verdicts on them, and an audit of its numbers."""
