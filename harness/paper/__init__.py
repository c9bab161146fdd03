"""The paper in data: its printed tables, the verdicts on them, and an audit of its numbers."""
