"""Built-in methods, one per file, checked against released code where there is any."""
