"""Command line: one module per command, with `add` (its options) and `handle` (its work).

Heavy modules are imported where they are used, so that `--help` answers at once.
"""
