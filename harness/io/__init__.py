"""Files and the console: atomic writes, reads with limits, locks, text, progress."""
