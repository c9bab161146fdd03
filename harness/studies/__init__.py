"""Measurements that are not runs: cost, robustness, determinism, released detections, reliability."""
