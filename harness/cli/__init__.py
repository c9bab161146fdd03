"""The command line: one module a command, with `add` (options) and `handle`; heavy modules are imported where used."""
