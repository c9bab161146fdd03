from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from wstal.backbones.i3d import MODULES, InceptionI3d, MaxPool, Unit3D, i3d_from_state
from wstal.errors import UserError


def network(channels: int = 3, classes: int = 5) -> InceptionI3d:
    torch.manual_seed(0)
    return InceptionI3d(channels, classes, shrink=8).eval()


def test_padding_is_that_of_tensorflow_with_the_odd_one_at_the_end():
    # 6 frames, stride 2, kernel 3: TensorFlow pads (3 - 1) * 2 + 3 - 6 = 1, at the end
    unit = Unit3D(1, 1, 3, 2, last=True)
    torch.nn.init.ones_(unit.conv3d.weight)
    torch.nn.init.zeros_(unit.conv3d.bias)
    x = torch.zeros(1, 1, 6, 6, 6)
    x[0, 0, :, 0, 0] = torch.arange(1.0, 7.0)
    with torch.no_grad():
        out = unit(x)[0, 0, :, 0, 0]
    assert out.tolist() == [1 + 2 + 3, 3 + 4 + 5, 5 + 6]  # padding at the beginning would give 3, 9, 15


def test_pooling_pads_with_zeros_as_the_weights_were_trained():
    pooled = MaxPool((3, 3, 3), (1, 1, 1))(torch.full((1, 1, 2, 2, 2), -1.0))
    assert pooled.unique().tolist() == [0.0]


def test_sizes_of_the_map_and_the_widths_of_the_published_network():
    small = network()
    clip = torch.zeros(1, 3, 16, 224, 224)
    assert small.mixed_5c(clip).shape == (1, 128, 2, 7, 7)
    assert InceptionI3d().width == 1024
    # Carreira and Zisserman's Inception module 4c: 160 + 224 + 64 + 64
    a, _, b, _, c, d = MODULES["Mixed_4c"]
    assert a + b + c + d == 512


def test_parameters_have_pytorch_i3ds_names_and_number():
    names = InceptionI3d().state_dict()
    assert names["Conv3d_1a_7x7.conv3d.weight"].shape == (64, 3, 7, 7, 7)
    assert names["Mixed_4f.b1b.conv3d.weight"].shape == (320, 160, 3, 3, 3)
    assert names["Mixed_5c.b3b.bn.running_var"].shape == (128,)
    assert names["logits.conv3d.bias"].shape == (400,)
    weights = [one for name, one in names.items() if name.endswith(("weight", "bias"))]
    assert sum(one.numel() for one in weights) == 12_697_264


def test_the_feature_is_the_mean_of_the_map_and_the_classifier_is_linear():
    small, clips = network(), torch.randn(2, 3, 16, 32, 32)
    with torch.no_grad():
        mapped = small.mixed_5c(clips)
        assert torch.allclose(small(clips), mapped.flatten(2).mean(2))
        everywhere = functional.conv3d(mapped, small.logits.conv3d.weight, small.logits.conv3d.bias)
        assert torch.allclose(small.classify(small(clips)), everywhere.flatten(2).mean(2), atol=1e-5)


def test_a_state_dict_tells_channels_classes_and_width(tmp_path: Path):
    first = network(2, 7)
    state = {name: one for name, one in first.state_dict().items() if "num_batches" not in name}  # as in files of 2017
    again, clip = i3d_from_state(state), torch.randn(1, 2, 16, 32, 32)
    assert again.logits.conv3d.out_channels == 7
    assert not again.training
    with torch.no_grad():
        assert np.array_equal(again(clip), first(clip))


@pytest.mark.parametrize("spoil", [
    lambda state: state.pop("Mixed_3b.b0.bn.bias"),
    lambda state: state.pop("logits.conv3d.weight"),
    lambda state: state.update({"Mixed_3b.b0.bn.bias": torch.zeros(3)}),
    lambda state: state.update({"Conv3d_1a_7x7.conv3d.weight": torch.zeros(100, 3, 7, 7, 7)}),
    lambda state: state.update({"Conv3d_1a_7x7.conv3d.weight": torch.zeros(())}),
])  # fmt: skip
def test_other_tensors_are_refused(spoil):
    state = network().state_dict()
    spoil(state)
    with pytest.raises(UserError, match="not I3D's"):
        i3d_from_state(state)
