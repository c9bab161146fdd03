"""The command line: one module a command. `add` declares its options, `handle` does it. Heavy modules are imported where used."""
