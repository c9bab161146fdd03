from __future__ import annotations

import pytest

from baselines.acmnet import AcmNet
from baselines.co2net import Co2Net
from harness.registry import load_method, method_entries
from harness.runs.overrides import differences, override, parse_assignments
from wstal.errors import UserError

RECIPE = AcmNet.recipe("thumos14")


def test_assignments_are_toml_values_or_words() -> None:
    assert parse_assignments(["a.b=20", "a.c=1e-3", "a.d=true", "a.e=word", "a.f=[1, 2]", "a.g='x=y'"]) == {
        "a.b": 20, "a.c": 1e-3, "a.d": True, "a.e": "word", "a.f": [1, 2], "a.g": "x=y",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["train.epochs", "=3", ""])
def test_an_assignment_needs_a_field_and_a_value(text: str) -> None:
    with pytest.raises(UserError, match="FIELD=VALUE"):
        parse_assignments([text])


def test_override_changes_only_what_it_names() -> None:
    changed = override(RECIPE, {"train.epochs": 20, "method.guide": 0.5, "localizer.margin": 0.1})
    assert differences(changed, RECIPE) == {"train.epochs": 20, "method.guide": 0.5, "localizer.margin": 0.1}
    assert type(changed.method) is AcmNet.Options
    assert override(RECIPE, {"localizer.nms.threshold": 0.3}).localizer.nms.threshold == 0.3
    assert override(RECIPE, {}) == RECIPE


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train.epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": 3}, "did you mean 'train.epochs'.*begin with method., train. or localizer."),
        ({"lr": 3}, "did you mean 'train.learning_rate'"),
        ({"learning-rate": 3}, "did you mean 'train.learning_rate'"),
        ({"wd": 3}, "did you mean 'train.weight_decay'"),
        ({"train.lr": 3}, "did you mean 'learning_rate'.*Options of train"),
        ({"nms_threshold": 3}, "did you mean 'localizer.nms.threshold'"),
        ({"zzz": 3}, r"Unknown option 'zzz'\. Options begin with"),
        ({"train.epochs": "none"}, "train.epochs: Input should be a valid integer"),
        ({"train.epochs": 0}, "train.epochs: Input should be greater than or equal to 1, got 0"),
        ({"train.epochs": "many"}, "train.epochs"),
        ({"train.learning_rate": float("nan")}, "train.learning_rate"),
        ({"method.dropout": 1.0}, "method.dropout"),
        ({"train.epochs": True}, "train.epochs: Input should be a valid integer"),
        ({"train.epochs.more": 1}, "Unknown option 'train.epochs.more'. Options of train.epochs: none."),
        ({"localizer.nms.treshold": 1}, "did you mean 'threshold'.*Options of localizer.nms"),
        ({"localizer.nms.threshold": -1.0}, "localizer.nms.threshold"),
    ],
)
def test_a_wrong_option_is_one_message_that_names_it(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        override(RECIPE, values)


@pytest.mark.parametrize("word", ["none", "null", "None"])
def test_an_option_that_may_be_without_a_value_can_lose_it(word: str) -> None:
    decaying = override(RECIPE, {"train.decay_every": 5})
    changed = override(decaying, parse_assignments([f"train.decay_every={word}"]))
    assert changed.train.decay_every is None
    assert changed == RECIPE


def test_a_value_of_that_name_stays_one() -> None:
    plain = {"localizer.nms.threshold": None, "localizer.nms.sigma": None}
    assert override(RECIPE, plain | parse_assignments(["localizer.nms.kind=none"])).localizer.nms.kind == "none"


def test_lr_means_the_rate_of_every_method() -> None:
    for method in method_entries():
        with pytest.raises(UserError, match=r"did you mean 'train\.learning_rate'"):
            override(load_method(method).recipe("thumos14"), {"lr": 1})


def test_a_field_that_is_not_written_at_its_default_can_be_set() -> None:
    """Options younger than stored runs, at every depth."""
    recipe = Co2Net.recipe("thumos14")
    values = {"method.logit_dropout": 0.0, "train.accumulate": 2, "localizer.outer_weight": 0.5}
    changed = override(recipe, values)
    assert differences(changed, recipe) == values
    assert differences(recipe, changed) == {
        "method.logit_dropout": 0.5,
        "train.accumulate": 1,
        "localizer.outer_weight": 1.0,
    }
