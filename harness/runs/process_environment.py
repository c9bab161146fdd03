"""Environment variables of a run's process, which have to be set before its interpreter starts."""

from __future__ import annotations

import os

# glibc gives large tensors back to the system and faults them in again at every step: an eighth of a full-size step
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}
# torch and NumPy read one of these each; dask's workers come with values of their own
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# cuBLAS repeats its sums only with a workspace of fixed size, set before it is loaded
FIXED_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def process_environment(threads: int | None) -> dict[str, str]:
    """Return the environment of a run's process.

    Args:
        threads: CPU threads of the run; None leaves them to the libraries.
    """
    counts = {} if threads is None else dict.fromkeys(THREADS, str(threads))
    return FIXED_WORKSPACE | os.environ | KEEP_MEMORY | counts
