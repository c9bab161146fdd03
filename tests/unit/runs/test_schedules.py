from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from pydantic import ValidationError

from harness.data.synthetic_families import FAMILIES
from harness.registry import load_method, method_entries
from harness.runs.overrides import override
from harness.runs.schedules import Schedule, schedule_for
from harness.runs.training import check_batches
from wstal.streams import TwoStreams
from wstal.supervised import SupervisedMethod
from wstal.types import SupervisedVideo, Video

SHIPPED = sorted(file.name.removesuffix(".toml") for file in (files("harness") / "shipped" / "schedules").iterdir())


def test_a_data_set_without_a_schedule_keeps_the_methods_own_recipes() -> None:
    assert schedule_for("thumos14") == Schedule()
    assert schedule_for("thumos14").options("acmnet") == {}


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_schedule_says_why_and_fits_every_method(name: str) -> None:
    schedule = schedule_for(name)
    assert schedule.why
    assert set(schedule.methods) <= set(method_entries())
    assert schedule.ablations is None or schedule.ablations.why
    for method in method_entries():
        for ablation in (False, True):
            override(load_method(method).recipe(name), schedule.options(method, ablation))


def test_one_methods_options_go_over_those_of_all() -> None:
    schedule = Schedule(every_method={"train.epochs": 1, "train.batch_size": 2}, methods={"m": {"train.epochs": 9}})
    assert schedule.options("m") == {"train.epochs": 9, "train.batch_size": 2}
    assert schedule.options("other") == {"train.epochs": 1, "train.batch_size": 2}


def test_ablations_options_go_over_the_schedules() -> None:
    ablations = {"why": "cheap", "every_method": {"a": 3, "c": 5}, "methods": {"m": {"c": 6}}}
    schedule = Schedule(every_method={"a": 1, "b": 2}, methods={"m": {"b": 4}}, ablations=ablations)
    assert schedule.options("m") == {"a": 1, "b": 4}
    assert schedule.options("m", ablation=True) == {"a": 3, "b": 4, "c": 6}
    assert schedule.options("other", ablation=True) == {"a": 3, "b": 2, "c": 5}


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError):
        Schedule.model_validate({"epochs": 3})


@pytest.mark.parametrize("name", SHIPPED)
def test_every_methods_batches_can_be_made(name: str) -> None:
    """Videos of unequal lengths, as in every data set but those whose videos are stretched to one."""
    rng = np.random.default_rng(0)
    stretched = name.removeprefix("synthetic-") in FAMILIES
    rows = [12 if stretched else n + 5 for n in range(8)]
    videos = [Video(f"v{n}", rng.random((rows[n], 16), dtype=np.float32), (n % 3,), 0.64) for n in range(8)]
    for method in method_entries():
        cls = load_method(method)
        options = schedule_for(name).options(method)
        if issubclass(cls, TwoStreams) and "method.split" not in options:  # of a data set of two streams
            options |= {"method.streams": (8, 8)}
        recipe = override(cls.recipe(name), options)
        timed = [SupervisedVideo(v, np.array(v.labels), np.array([1.3]), np.array([2.9])) for v in videos]
        given = timed if issubclass(cls, SupervisedMethod) else videos
        check_batches(cls(recipe.method, 16, 3), given, recipe.train)


def test_tables_viii_pairs_are_trained_alike() -> None:
    """What a base has as its own option, the method over it has as the base's."""
    for name in SHIPPED:
        for base, ours in (
            ("stpn-embedded", "stpn-rmgcl-gksa"),
            ("basnet", "basnet-rmgcl-gksa"),
            ("acmnet", "rmgcl-gksa"),
        ):
            own, over = (schedule_for(name).options(method) for method in (base, ours))
            options = {key.replace("method.base.", "method."): value for key, value in over.items()}
            different = {key for key in own.keys() | options.keys() if own.get(key) != options.get(key)}
            # the contribution's own, which the base does not have
            assert {key for key in different if not key.startswith(("method.memory.", "method.contrast."))} <= {
                "train.decay_every"
            }
