"""The main job: every method with every seed, then the leaderboard."""

from __future__ import annotations
