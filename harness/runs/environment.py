"""Environment that a run was computed in: versions, threads, hardware, state of the code."""

from __future__ import annotations

import os
import platform
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
    return {
        "wstal-bench": version("wstal-bench"),
        "commit": git_state().get("commit"),
        "method": method_origin(method),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_name() -> str:
    """Return the processor's name and its number of cores, as far as the system knows them."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
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
