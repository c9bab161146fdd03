"""Packages of the optional extra `video`, imported where they are first used."""

from __future__ import annotations

import importlib
from typing import Any

from wstal.errors import UserError

PACKAGES = {"av": "av", "cv2": "opencv-contrib-python-headless"}


def need(module: str) -> Any:
    """Import a module of the extra.

    Raises:
        UserError: it is not installed, or OpenCV was built without the optical flow of its contributed part.
    """
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"Reading videos needs the package {PACKAGES[module]} ({error}). "
            "Install the extra: pip install 'wstal-bench[video]'."
        ) from error
    if module == "cv2" and not hasattr(found, "optflow"):
        raise UserError(
            "This OpenCV has no TV-L1 flow, which is in its contributed part. "
            f"Replace it: pip uninstall opencv-python, pip install {PACKAGES[module]}."
        )
    return found
