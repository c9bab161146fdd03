"""Denoising losses against NumPy's singular values of matrices worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wstal.losses.denoising import log_singular_ratio, snippet_denoising, video_denoising


def test_log_singular_ratio_by_hand() -> None:
    matrices = torch.tensor([[[4.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 1e-6]], [[0.0, 0.0], [0.0, 0.0]]])
    matrices.requires_grad_()
    ratio = log_singular_ratio(matrices, 1e-5)
    torch.testing.assert_close(ratio, torch.tensor([np.log(2), 0, 0], dtype=torch.float32))
    ratio.sum().backward()
    assert matrices.grad.isfinite().all()
    # d log(s) = 1 / s at the largest, -1 / s at the smallest
    torch.testing.assert_close(matrices.grad[0], torch.tensor([[0.25, 0.0], [0.0, -0.5]]))


def test_snippet_denoising_by_hand() -> None:
    cas = torch.tensor([[[0.9, 0.1], [0.7, 0.8], [0.2, 0.4]]]).expand(3, 3, 2)
    labels = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    foreground = torch.tensor([[True, True, False], [True, True, False], [False, False, False]])
    background = torch.tensor([[False, False, True], [False, False, False], [True, True, True]])
    # only the first video has both: means 0.8 of class 0 and 0.4 of the best class
    joint = np.array([[0.8, 0.2], [0.4, 0.6]])
    largest, smallest = np.linalg.svd(joint, compute_uv=False)
    assert snippet_denoising(cas, labels, foreground, background).item() == pytest.approx(
        np.log(largest / smallest), rel=1e-6
    )


def test_video_denoising_by_hand() -> None:
    scores = torch.tensor([[0.8, 0.1], [0.3, 0.6], [0.5, 0.5]])
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])  # the third video does not count
    joint = np.array([[1.0, 0.0], [1 / 3, 2 / 3]])  # 0.1 is below a fifth of 0.8
    largest, smallest = np.linalg.svd(joint, compute_uv=False)
    assert video_denoising(scores, labels).item() == pytest.approx(np.log(largest / smallest), rel=1e-6)
    assert video_denoising(scores, torch.zeros(3, 2)).item() == 0
