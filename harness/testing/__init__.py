"""Checks that every method must pass. A third-party package can run them in its own tests."""

from harness.testing.checks import CHECKS, check_method
from harness.testing.examples import example, example_for, late_in_training, on_device, own_options

__all__ = ["CHECKS", "check_method", "example", "example_for", "late_in_training", "on_device", "own_options"]
