"""One module a command: `add` declares its options, its handler does it. Heavy modules are imported where used."""
