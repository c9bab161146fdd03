"""Networks that turn frames into features."""
