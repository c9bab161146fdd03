"""Methods with optimizers of their own, with stages and with counts: each resumes to the same bits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from baselines.acmnet import AcmNet, AcmNetOptions
from harness.random_streams import seed_torch
from harness.runs.failed_step import FAILED_STEP, save_failed_step
from harness.runs.failed_step import Position as At
from harness.runs.training import train
from harness.testing import CHECKS, example
from harness.testing.examples import EPOCHS, last_epochs
from tests.helpers.training import RUN, SPEC, goes_on_to_the_same_bits, videos
from wstal.method import Method, TrainSpec, adam
from wstal.types import Batch, CountedBatch, Supervision, Video

HALF = 3  # of the 6 epochs of SPEC


class Centred(AcmNet):
    """A centre of each class with plain gradient descent, beside ACM-Net and its Adam."""

    def __init__(self, spec: AcmNetOptions, feature_dim: int, num_classes: int) -> None:
        super().__init__(spec, feature_dim, num_classes)
        self.centres = nn.Parameter(torch.zeros(num_classes, feature_dim))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().losses(batch)
        distance = (batch.features.mean(dim=1) - batch.labels @ self.centres).square().mean()
        return terms | {"centre": distance, "total": terms["total"] + distance}

    def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
        network = [value for name, value in self.named_parameters() if name != "centres"]
        return [adam(network, train), torch.optim.SGD([self.centres], lr=0.5, momentum=0.9)]


class Staged(Centred):
    """The centres first, then from new ones all but them."""

    starts: ClassVar[list[int]] = []

    def stage(self, epoch: int, epochs: int) -> int:
        return int(2 * epoch >= epochs)

    def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
        second = self.stage(epoch, epochs) == 1
        if second and self.stage(epoch - 1, epochs) == 0:
            with torch.no_grad():
                self.centres.normal_()
            self.starts.append(epoch)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_((name == "centres") != second)


class Counting(AcmNet):
    """ACM-Net that is told how many instances there are."""

    supervision: ClassVar[Supervision] = "weak+count"
    seen: ClassVar[list[Tensor]] = []

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, CountedBatch)
        self.seen.append(batch.counts)
        terms = super().losses(batch)
        return terms | {"total": terms["total"] * (1 + batch.counts.mean())}


def fresh(cls: type[Method], seed: int = 0) -> Method:
    seed_torch(seed, "initialisation")
    return cls(AcmNetOptions(dropout=0.5), 16, 3)


@pytest.mark.parametrize("cls", [Centred, Staged, Counting])
@pytest.mark.parametrize("stop", [2, HALF, 4])
def test_each_goes_on_to_the_same_bits(cls: type[Method], stop: int, tmp_path: Path) -> None:
    goes_on_to_the_same_bits(lambda seed: fresh(cls, seed), stop, tmp_path)


def stored(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load((folder / f"checkpoint-{SPEC.epochs:06d}.safetensors").read_bytes())


def test_the_first_optimizer_is_stored_as_when_there_was_one(tmp_path: Path) -> None:
    alone, both = fresh(AcmNet), fresh(Centred)
    train(alone, videos(), SPEC, 0, tmp_path / "a", RUN)
    train(both, videos(), SPEC, 0, tmp_path / "b", RUN)
    names = {f"optimizer.{number}.exp_avg" for number in range(len(list(alone.parameters())))}
    assert names <= stored(tmp_path / "a").keys()
    added = {"method.centres", "optimizer1.0.momentum_buffer"}
    assert stored(tmp_path / "b").keys() == stored(tmp_path / "a").keys() | added


def test_each_group_decays_from_its_own_rate(tmp_path: Path) -> None:
    rates: list[list[float]] = []

    class Watched(Centred):
        def optimizers(self, train: TrainSpec) -> list[torch.optim.Optimizer]:
            self.made = super().optimizers(train)
            return self.made

    method = fresh(Watched)
    train(
        method, videos(), SPEC, 0, tmp_path, RUN,
        on_progress=lambda *_: rates.append([one.param_groups[0]["lr"] for one in method.made]),
    )  # fmt: skip
    assert rates == [[pytest.approx(SPEC.learning_rate * f), pytest.approx(0.5 * f)] for f in (1, 1, 1, 1, 0.1, 0.1)]


def test_a_stage_trains_what_it_frees_with_a_new_optimizer(tmp_path: Path) -> None:
    Staged.starts.clear()
    method, states = fresh(Staged), list[dict[str, Tensor]]()
    train(
        method, videos(), SPEC, 0, tmp_path, RUN,
        on_progress=lambda *_: states.append({name: value.clone() for name, value in method.state_dict().items()}),
    )  # fmt: skip
    assert Staged.starts == [HALF]
    for number, (before, after) in enumerate(itertools.pairwise(states), 1):
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        if number == HALF:
            assert moved == after.keys()  # new centres
        else:
            assert moved == ({"centres"} if number < HALF else after.keys() - {"centres"})
    steps = {value.item() for name, value in stored(tmp_path).items() if name.endswith(".step")}
    assert steps == {3.0 * (SPEC.epochs - HALF)}, "Adam counts its steps from the start of the stage"


def test_a_method_that_declares_counts_gets_those_of_its_videos(tmp_path: Path) -> None:
    Counting.seen.clear()
    train(fresh(Counting), videos(4), SPEC.model_copy(update={"epochs": 1}), 0, tmp_path, RUN)
    (counts,) = Counting.seen
    assert sorted(map(tuple, counts.tolist())) == sorted([(1, 0, 0), (0, 2, 0), (0, 0, 3), (4, 0, 0)])


def test_a_weak_method_gets_no_counts_whatever_its_videos_have(tmp_path: Path) -> None:
    class Weak(AcmNet):
        def losses(self, batch: Batch) -> dict[str, Tensor]:
            assert type(batch) is Batch
            return super().losses(batch)

    train(fresh(Weak), videos(4), SPEC.model_copy(update={"epochs": 1}), 0, tmp_path, RUN)


def test_counts_are_kept_with_a_failed_step(tmp_path: Path) -> None:
    given = example(2, supervision="weak+count")
    assert isinstance(given, CountedBatch)
    save_failed_step(tmp_path / FAILED_STEP, fresh(Counting), given, torch.get_rng_state(), At(0, 1, 0), "float32")
    kept = safetensors.torch.load((tmp_path / FAILED_STEP).read_bytes())
    assert torch.equal(kept["counts"], given.counts)


@pytest.mark.parametrize("check", CHECKS.values(), ids=list(CHECKS))
@pytest.mark.parametrize("cls", [Staged, Counting])
def test_the_contract_knows_stages_and_counts(cls: type[Method], check) -> None:
    check(cls)


def test_the_contract_looks_at_every_stage() -> None:
    method = fresh(Staged)
    assert last_epochs(method) == [EPOCHS // 2 - 1, EPOCHS - 1]

    class Forgotten(Staged):
        def start_epoch(self, epoch: int, epochs: int, videos: Sequence[Video] = ()) -> None:
            self.centres.requires_grad_(False)

    with pytest.raises(AssertionError, match="'centres'"):
        CHECKS["losses_are_finite_with_gradient_to_every_parameter"](Forgotten)
