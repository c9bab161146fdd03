"""Weakly supervised temporal action localization: vocabulary, shared parts, evaluation."""
