"""Charts as deterministic SVG: comparisons, training curves, robustness."""
