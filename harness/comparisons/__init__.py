"""Put results beside each other: runs, rows of a plan, published numbers."""
