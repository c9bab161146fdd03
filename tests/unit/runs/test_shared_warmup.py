"""The first epochs that rows of an ablation have in common: taken from one another, every row keeps its bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from baselines.acmnet import AcmNet
from baselines.rmgcl_gksa import RmgclGksa
from harness.records.cleanup import collect
from harness.records.store import Store
from tests.helpers.faults import finished
from tests.helpers.runs import EPOCHS, run
from tests.helpers.small_data import write_tiny

pytestmark = pytest.mark.usefixtures("one_thread")


SHARED = 3  # 0.3 of 8 epochs, rounded up
START = {"method.memory.start": 0.3}
ROWS: dict[str, dict[str, Any]] = {
    "full": {},
    "no pseudo labels": {"method.pseudo": False},
    "contrast alone": {"method.gks": False, "method.gka": False, "method.pseudo": False},
    "a shorter memory": {"method.memory.length": 3},
    "other knowledge": {"method.summary.kind": "k_means"},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"), train=4, test=2)


def trained(data: Path, store: Path, method: str = "rmgcl-gksa", **options: Any) -> list[int]:
    """Do a run; the epochs that it trained itself."""
    epochs: list[int] = []
    run(data, store, method, lambda stage, done, *_: epochs.append(done) if stage == "train" else None, **options)
    return epochs


def test_the_base_trains_alone_until_the_bank_is_built() -> None:
    recipe = RmgclGksa.recipe("thumos14").method
    for start, epochs, alone in ((0.25, 200, 50), (0.07, 100, 7), (0.3, 8, 3), (0.0, 5, 0), (0.5, 3, 2)):
        spec = recipe.model_copy(update={"memory": recipe.memory.model_copy(update={"start": start})})
        method = RmgclGksa(spec, 4, 2)
        part, shared = method.shared_warmup(epochs)
        assert (part, shared) == (method.base, alone)
        building = []
        for epoch in range(epochs):
            method.start_epoch(epoch, epochs)
            building.append(method._building)
        assert building == [False] * alone + [True] * (epochs - alone)
    # a row without a bank trains on; what it leaves is no start for one whose bank would never be built
    off = dict.fromkeys(["rmgcl", "gks", "gka", "pseudo"], False)
    late = recipe.model_copy(update=off | {"memory": recipe.memory.model_copy(update={"start": 0.9})})
    assert RmgclGksa(late, 4, 2).shared_warmup(4)[1] == 0
    assert AcmNet(AcmNet.recipe("thumos14").method, 4, 2).shared_warmup(9)[1] == 0


def test_rows_take_the_common_epochs_from_one_another_and_keep_their_bits(tiny: Path, tmp_path: Path) -> None:
    alone = {row: finished_alone(tiny, tmp_path / row, options) for row, options in ROWS.items()}
    together = tmp_path / "together"
    for number, (row, options) in enumerate(ROWS.items()):
        epochs = trained(tiny, together, **START, **options)
        assert epochs == list(range(1 if number == 0 else SHARED + 1, EPOCHS + 1)), row
    assert finished(together) == {name: files for runs in alone.values() for name, files in runs.items()}


def finished_alone(tiny: Path, store: Path, options: dict[str, Any]) -> dict[str, Any]:
    assert trained(tiny, store, **START, **options) == list(range(1, EPOCHS + 1))
    return finished(store)


@pytest.mark.parametrize(
    "other",
    [{"method.base.guide": 0.5}, {"train.learning_rate": 1e-3}, {"method.memory.start": 0.5}],
    ids=["option of the base", "schedule", "length"],
)
def test_what_decides_the_common_epochs_is_not_taken_from_another(
    other: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    trained(tiny, tmp_path, **START)
    assert trained(tiny, tmp_path, **START | other)[0] == 1


def test_a_damaged_warmup_is_made_again(tiny: Path, tmp_path: Path) -> None:
    expected = finished_alone(tiny, tmp_path / "alone", ROWS["no pseudo labels"])
    store = tmp_path / "store"
    trained(tiny, store, **START)
    (file,) = (store / "cache").glob("warmup-*/*.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert trained(tiny, store, **START, **ROWS["no pseudo labels"])[0] == 1
    assert expected.items() <= finished(store).items()
    assert trained(tiny, store, **START, **ROWS["a shorter memory"])[0] == SHARED + 1


def test_gc_removes_warmups(tiny: Path, tmp_path: Path) -> None:
    trained(tiny, tmp_path, **START)
    assert list((tmp_path / "cache").glob("warmup-*"))
    collect(Store(tmp_path))
    assert not list((tmp_path / "cache").glob("warmup-*"))
    assert len(Store(tmp_path).finished()) == 1
