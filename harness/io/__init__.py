"""Files and the console: atomic writes, limited reads, locks, text, progress."""
