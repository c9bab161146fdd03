"""Stored results: the schema, the store, grouping over seeds, queries."""
