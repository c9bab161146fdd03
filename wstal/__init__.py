"""Core of weakly supervised temporal action localization: types, shared parts, losses, localizer and evaluation."""
