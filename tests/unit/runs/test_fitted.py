"""Recipes fitted to the size of data: of those that no paper and no shipped schedule covers, or whose schedule asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.data.held_out import HeldOutSource
from harness.data.source import DataSource
from harness.data.synthetic import embedded_source
from harness.registry import load_method, method_entries
from harness.runs.fitted import fitted_notes, fitted_options, is_fitted
from harness.runs.overrides import override
from harness.runs.plans import find_row
from harness.runs.spec import plan_run
from wstal.method import Recipe, TrainSpec
from wstal.types import Video


class OwnData(DataSource):
    """Training videos of some lengths, and nothing else."""

    lengths: tuple[int, ...] = ()

    def videos(self, subset: Any) -> list[Video]:
        return [Video(f"v{n}", np.zeros((rows, 4)), (0,), 0.64) for n, rows in enumerate(self.lengths)]

    def ground_truth(self, subset: Any) -> Any: ...

    def durations(self, videos: Any) -> Any: ...

    def describe(self, subsets: Any = ()) -> dict[str, Any]:
        return {"name": self.name}


def own_data(*lengths: int, **facts: Any) -> OwnData:
    stated = {"family": "mine", "schedule": "mine", "classes": ("a",), "stream_widths": (4,), "tious": (0.5,)}
    source = OwnData(name="mine", **stated | facts)
    object.__setattr__(source, "lengths", lengths)
    return source


def recipe(**train: Any) -> Recipe:
    own = load_method("acmnet").recipe("mine")
    return own.model_copy(update={"train": TrainSpec(**train)})


def fitted(source: DataSource, **train: Any) -> TrainSpec:
    own = recipe(**train)
    return override(own, fitted_options(own, source)).train


@pytest.mark.parametrize("family", ["thumos14", "activitynet13", "activitynet12", "fineaction"])
def test_data_of_papers_keep_their_recipes(family: str) -> None:
    source = own_data(10, family=family)
    assert not is_fitted(source)
    assert fitted_options(recipe(epochs=7), source) == {}
    assert fitted_notes(source) == ()


def test_a_shipped_schedule_goes_before_fitting() -> None:
    assert not is_fitted(own_data(10, family="ucf", schedule="ucf-untrimmed"))
    assert not is_fitted(embedded_source(full_size=False))
    assert not is_fitted(embedded_source(full_size=True))


def r2plus1d() -> OwnData:
    return own_data(*[256] * 93, *[400] * 92, family="thumos14", schedule="thumos14-r2plus1d")


def test_a_shipped_schedule_may_ask_for_fitting_and_then_says_itself_why() -> None:
    source = r2plus1d()
    assert is_fitted(source)
    assert fitted_notes(source) == ()


def test_acmnet_and_the_papers_method_have_the_papers_schedule_on_r2plus1d() -> None:
    for method in ("acmnet", "rmgcl-gksa"):
        train = plan_run(method, 0, r2plus1d(), {}).recipe.train
        assert (train.epochs, train.batch_size, train.learning_rate, train.decay_every) == (200, 16, 1e-4, 100)
        assert train.temporal_length == 256


@pytest.mark.parametrize("method", [name for name in method_entries() if load_method(name).supervision != "full"])
def test_weak_methods_train_on_r2plus1d_as_the_rule_says(method: str) -> None:
    """2,400 steps of 16 videos, or the recipe's own on 200 videos where they are fewer."""
    own = load_method(method).recipe("thumos14").train
    train = plan_run(method, 0, r2plus1d(), {}).recipe.train
    least = min(own.epochs * 200, 2_400 * 16)
    assert 0.9 * least <= train.epochs * 185 <= 1.1 * least
    assert train.temporal_length == min(own.temporal_length, 256)
    assert train.learning_rate == own.learning_rate
    assert train.batch_size * train.accumulate == own.batch_size * own.accumulate


@pytest.mark.parametrize(
    ("lengths", "rows"),
    [((41,) * 5, 64), ((64,) * 5, 64), ((65,) * 5, 128), ((9000,) * 5, 750), ((1,), 1), ((3, 4), 4)],
)
def test_videos_are_sampled_to_the_power_of_two_that_the_median_does_not_exceed(
    lengths: tuple[int, ...], rows: int
) -> None:
    assert fitted(own_data(*lengths), epochs=100).temporal_length == rows


def test_the_rows_that_the_data_set_states_stay_or_those_of_the_recipe_where_it_has_fewer() -> None:
    source = own_data(*[41] * 5, sample_length=100)
    assert plan_run("acmnet", 0, source, {}).recipe.train.temporal_length == 100
    assert plan_run("untrimmednet", 0, source, {}).recipe.train.temporal_length == 21
    assert "T = 100" in fitted_notes(source)[0]


@pytest.mark.parametrize(
    ("videos", "batch", "epochs", "expected"),
    [
        (200, 10, 100, 100),  # the size of THUMOS14: the recipe's own 2,000 steps
        (100, 10, 100, 200),  # half of the videos: the same steps in twice as many epochs
        (200, 16, 1000, 185),  # 2,400 steps in epochs of 13
        (6, 16, 1000, 2400),  # a step an epoch
        (100_000, 16, 1000, 20),  # no fewer than 20
        (100_000, 16, 8, 8),  # unless the recipe has fewer
    ],
)
def test_training_takes_the_recipes_steps_on_thumos14_up_to_a_limit(
    videos: int, batch: int, epochs: int, expected: int
) -> None:
    assert fitted(own_data(*[50] * videos), epochs=epochs, batch_size=batch).epochs == expected


def test_summed_batches_count_as_one_step() -> None:
    assert fitted(own_data(*[50] * 50), epochs=100, batch_size=1, accumulate=10).epochs == 400


@pytest.mark.parametrize("videos", [185, 193, 200, 208])
def test_a_decay_halfway_has_no_other_in_the_last_epoch(videos: int) -> None:
    train = fitted(own_data(*[50] * videos), epochs=200, batch_size=16, decay_every=100)
    assert train.decay_every is not None
    assert (train.epochs - 1) // train.decay_every == 1


def test_what_counts_epochs_is_scaled_alike_and_rates_stay() -> None:
    train = fitted(own_data(*[50] * 100), epochs=100, batch_size=10, decay_every=30, learning_rate=3e-4)
    assert (train.epochs, train.decay_every, train.learning_rate) == (200, 60, 3e-4)
    own = load_method("em-mil").recipe("mine")
    options = fitted_options(own, own_data(*[50] * 400))
    assert (options["train.epochs"], options["method.phase_epochs"], options["method.video_epochs"]) == (32, 5, 22)
    assert fitted_options(own, own_data(*[50] * 10**5))["method.phase_epochs"] == 3


@pytest.mark.parametrize("method", method_entries())
def test_every_methods_recipe_can_be_fitted_and_is_shown_as_the_schedule(method: str) -> None:
    source = own_data(*range(5, 25))
    spec = plan_run(method, 0, source, {})
    train = spec.recipe.train
    assert train.temporal_length <= 16
    assert spec.schedule["train.temporal_length"] == train.temporal_length
    assert plan_run(method, 0, source, {"train.epochs": 3}).recipe.train.epochs == 3


def test_what_is_chosen_on_held_out_videos_is_for_training_on_all() -> None:
    source = own_data(*range(5, 25))
    held_out = HeldOutSource.of(source, 0.25)
    assert fitted_options(recipe(epochs=100), held_out) == fitted_options(recipe(epochs=100), source)


def test_the_note_says_what_was_chosen_and_for_what() -> None:
    (note,) = fitted_notes(own_data(10, 20, 30))
    assert "3 training videos of 20 rows (median): T = 32" in note
    assert "2,400 of 16 videos" in note


def test_a_base_row_is_fitted_as_the_method_it_is_trained_as() -> None:
    source = own_data(*[30] * 20)
    base = plan_run("acmnet", 0, source, {}, find_row("IV/baseline")).recipe.train
    ours = plan_run("rmgcl-gksa", 0, source, {}).recipe.train
    assert (base.epochs, base.temporal_length) == (ours.epochs, ours.temporal_length)
