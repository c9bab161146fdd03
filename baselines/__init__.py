"""Reference implementations of published methods, one file each."""
