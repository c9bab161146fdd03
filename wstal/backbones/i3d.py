"""I3D (Inception) of Carreira and Zisserman (2017), the network behind most features of the field.

Parameters have the names of pytorch-i3d, in which the field's weights circulate (`rgb_imagenet.pt`). Convolutions and
poolings pad as TensorFlow's `SAME` does, because the weights were trained so: the padding depends on the size of what
comes in, and where it is odd, the end has one more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from wstal.errors import UserError

# channels of each Inception module: 1x1, then 1x1 and 3x3 twice, then 1x1 after pooling
MODULES = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


def _same(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Pad with zeros as TensorFlow's `SAME`."""
    sides: list[int] = []
    for size, width, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        lacking = max(0, (-(-size // step) - 1) * step + width - size)
        sides += [lacking // 2, lacking - lacking // 2]
    return functional.pad(x, sides) if any(sides) else x


class Unit3D(nn.Module):
    """Convolution, batch normalisation and ReLU.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: frames, height and width.
        stride: of the same.
        last: whether it is the classifier, with a bias, without normalisation and ReLU.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, last: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=last)
        self.bn = None if last else nn.BatchNorm3d(outputs, eps=0.001, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, inputs, T, H, W]` to `[N, outputs, T / stride, H / stride, W / stride]`."""
        x = self.conv3d(_same(x, self.kernel, self.stride))
        return x if self.bn is None else functional.relu(self.bn(x), inplace=not self.training)


class MaxPool(nn.Module):
    """Maximum over a window, padded with zeros.

    Args:
        kernel: frames, height and width.
        stride: of the same.
    """

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Pool `[N, C, T, H, W]`."""
        return functional.max_pool3d(_same(x, self.kernel, self.stride), self.kernel, self.stride)


class InceptionModule(nn.Module):
    """Four branches side by side.

    Args:
        inputs: channels that come in.
        outputs: channels of the branches' convolutions, as in `MODULES`.
    """

    def __init__(self, inputs: int, outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.b0 = Unit3D(inputs, outputs[0])
        self.b1a, self.b1b = Unit3D(inputs, outputs[1]), Unit3D(outputs[1], outputs[2], 3)
        self.b2a, self.b2b = Unit3D(inputs, outputs[3]), Unit3D(outputs[3], outputs[4], 3)
        self.b3a, self.b3b = MaxPool((3, 3, 3), (1, 1, 1)), Unit3D(inputs, outputs[5])

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, inputs, T, H, W]` to the branches' channels one after the other."""
        branches = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))
        return torch.cat(branches, dim=1)


class InceptionI3d(nn.Module):
    """Inception-v1 inflated to three dimensions, of which the last map before the classifier is the feature.

    Args:
        in_channels: 3 for RGB in [-1, 1], 2 for optical flow in [-1, 1] (horizontal, vertical).
        num_classes: of the classifier.
        shrink: divisor of all channels, 1, 2, 4 or 8; above 1 the network is another, for tests.

    Example:
        >>> network = InceptionI3d(num_classes=5, shrink=8).eval()
        >>> features = network(torch.zeros(2, 3, 16, 32, 32))
        >>> features.shape, network.classify(features).shape
        (torch.Size([2, 128]), torch.Size([2, 5]))
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 400, *, shrink: int = 1) -> None:
        super().__init__()
        first, second = 64 // shrink, 192 // shrink
        self.Conv3d_1a_7x7 = Unit3D(in_channels, first, 7, 2)
        self.MaxPool3d_2a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(first, first)
        self.Conv3d_2c_3x3 = Unit3D(first, second, 3)
        self.MaxPool3d_3a_3x3 = MaxPool((1, 3, 3), (1, 2, 2))
        width = second
        for name, channels in MODULES.items():
            if name == "Mixed_4b":
                self.MaxPool3d_4a_3x3 = MaxPool((3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                self.MaxPool3d_5a_2x2 = MaxPool((2, 2, 2), (2, 2, 2))
            outputs = tuple(channel // shrink for channel in channels)
            self.add_module(name, InceptionModule(width, outputs))
            width = outputs[0] + outputs[2] + outputs[4] + outputs[5]
        self.width = width
        self.logits = Unit3D(width, num_classes, last=True)

    def mixed_5c(self, clips: Float[Tensor, "batch channels frames height width"]) -> Float[Tensor, "batch dim t h w"]:
        """Return the last map before the classifier, with a frame for each eight and a pixel for each 32."""
        x: Tensor = clips
        for name, layer in self.named_children():
            if name != "logits":
                x = layer(x)
        return x

    def forward(self, clips: Float[Tensor, "batch channels frames height width"]) -> Float[Tensor, "batch dim"]:
        """Return the feature of each clip: `mixed_5c` averaged over frames and pixels."""
        return self.mixed_5c(clips).mean(dim=(2, 3, 4))

    def classify(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """Return the logits of the classes, which is linear, so that it is the mean of the map's own logits."""
        logits: Tensor = self.logits(features[:, :, None, None, None])
        return logits[:, :, 0, 0, 0]


def i3d_from_state(state: Mapping[str, Tensor]) -> InceptionI3d:
    """Build the network that a state dict is of, with its weights, ready to compute features.

    Args:
        state: tensors by pytorch-i3d's names. Counts of training steps are ignored: files of 2017 have none.

    Raises:
        UserError: the tensors are not those of this network.

    Example:
        >>> i3d_from_state(InceptionI3d(2, num_classes=5, shrink=8).state_dict()).width
        128
    """
    try:
        first, last = state["Conv3d_1a_7x7.conv3d.weight"], state["logits.conv3d.weight"]
        with torch.device("meta"):  # nothing is drawn that would be replaced
            network = InceptionI3d(first.shape[1], last.shape[0], shrink=64 // first.shape[0])
        known = network.state_dict()
        counts = {name: torch.tensor(0) for name in known if name.endswith("num_batches_tracked")}
        if lacking := known.keys() - counts.keys() - state.keys():
            raise KeyError(min(lacking))
        network.load_state_dict({name: counts.get(name, state.get(name)) for name in known}, assign=True)
    except (KeyError, IndexError, ZeroDivisionError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"These are not I3D's (Inception) weights by pytorch-i3d's names: {reason}.") from error
    return network.eval().requires_grad_(False)
