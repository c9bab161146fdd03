"""Environment that a run was computed in: versions, threads, hardware, state of the code."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from harness.registry import method_origin

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "threadpoolctl", "pot", "entmax", "safetensors", "pydantic")


def environment(device: torch.device, method: str) -> dict[str, Any]:
    """Return what decides a run's bits besides its specification.

    Args:
        device: where the run computes.
        method: registered name.

    Returns:
        JSON values, the same on every run of one machine and commit.
    """
    return machine() | {
        "wstal-bench": version("wstal-bench"),
        "method": method_origin(method),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
    }


def machine() -> dict[str, Any]:
    """Return the part of the environment that is the same for all runs of this machine and commit."""
    return {
        "commit": git_state().get("commit"),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "cpu": cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_name() -> str:
    """Return the processor's name and its number of cores, as far as the system knows them."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name[^:\n]*:(.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    name = found[1].strip() if found else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def git_state() -> dict[str, Any]:
    """Return the commit of the code and whether its tracked files were changed; empty outside a checkout."""
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
