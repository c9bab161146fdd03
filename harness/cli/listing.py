"""What `wstal-bench ls` lists: one function a word, each giving rows of plain values."""

from __future__ import annotations
