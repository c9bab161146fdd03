"""Runs: requests, plans of recipes, training, scoring, and what a run stores."""
