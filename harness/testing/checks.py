"""Checks that every method must pass, each with a message that says what does not hold."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from harness.random_streams import seed_torch
from harness.runs.failed_step import losses_of
from harness.runs.scoring import common_localizer, score_videos
from harness.testing.examples import (
    CLASSES,
    EPOCHS,
    WIDTH,
    example,
    example_for,
    last_epochs,
    one_epoch,
    reordered,
    variants,
    videos_of,
    without_labels,
)
from harness.testing.input_checks import batches_show_every_video, training_reads_no_file
from wstal.localize import localize
from wstal.method import Method, Recipe
from wstal.supervised import SupervisedMethod
from wstal.types import Batch, Scores, Video

FAMILIES = ("thumos14", "activitynet12", "activitynet13", "fineaction", "somebody-else's")
Check = Callable[[type[Method]], None]
Terms = Mapping[str, Tensor]


def check_method(method: type[Method]) -> None:
    """Run every check on a method, registered or not.

    Raises:
        AssertionError: says what the method does and what it should do.
    """
    for check in CHECKS.values():
        check(method)


def _close(found: Terms, expected: Terms, where: str, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    for name, value in expected.items():
        message = f"{name!r} {where}: "
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=atol, msg=message.__add__)


def _equal(found: Terms, expected: Terms, where: str) -> None:
    for name, value in expected.items():
        assert torch.equal(found[name], value), f"{name!r} differs {where}."


def options_refuse_unknown_fields(cls: type[Method]) -> None:
    """Check that a misspelt option is an error and not ignored."""
    try:
        cls.Options.model_validate({"no_such_option": 1})
    except ValidationError:
        return
    raise AssertionError(f"{cls.__name__}.Options takes unknown fields: derive it from wstal.method.Spec.")


def recipes_cover_every_data_set(cls: type[Method]) -> None:
    """Check that there are defaults for any family of data sets, and that JSON preserves them."""
    for family in FAMILIES:
        recipe = cls.recipe(family)
        assert isinstance(recipe.method, cls.Options), f"{cls.__name__}.recipe({family!r}).method is no {cls.Options}."
        stored = recipe.model_dump(mode="json")
        restored = Recipe.model_validate(stored | {"method": cls.Options.model_validate(stored["method"])})
        assert restored == recipe, f"{cls.__name__}.recipe({family!r}) is not the same after being stored."


def losses_are_finite_with_gradient_to_every_parameter(method: Method) -> None:
    """Check that losses are finite scalars and that training changes every parameter in one of its stages.

    If it freezes its parts in turn, one of the last two epochs counts. A gradient may be zero at first, multiplied by a
    weight of 0 or by what only other weights let differ. Then it must not be in each of five draws of all weights.
    """
    names, reached = dict(method.named_parameters()).keys(), _reached(method)
    for draw in range(5):
        if names <= reached:
            break
        seed_torch(draw, "initialisation")
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.normal_(std=0.5)
        reached |= _reached(method)
    for name, parameter in method.named_parameters():
        assert name in reached, (
            f"The gradient of {name!r} is zero everywhere."
            if parameter.grad is not None
            else f"No gradient reaches the parameter {name!r}: is it used?"
        )


def _reached(method: Method) -> set[str]:
    """Return the names of the parameters that have a gradient in one of the stages."""
    reached: set[str] = set()
    stages = last_epochs(method)
    if not all(parameter.requires_grad for parameter in method.parameters()):
        stages = sorted({*stages, EPOCHS - 2})
    for epoch in stages:
        given = example_for(method, stage=method.stage(epoch, EPOCHS))
        if len(stages) > 1:
            method.train().start_epoch(epoch, EPOCHS, videos_of(given) if isinstance(given, Batch) else ())
        method.eval()
        losses = losses_of(method, given)
        for name, value in losses.items():
            assert value.shape == (), f"The loss term {name!r} has shape {tuple(value.shape)}, not that of a scalar."
            assert value.isfinite(), f"The loss term {name!r} is {value.item()}."
        method.zero_grad()
        losses["total"].backward()  # type: ignore[no-untyped-call]
        for name, parameter in method.named_parameters():
            if (gradient := parameter.grad) is not None:
                assert gradient.isfinite().all(), f"The gradient of {name!r} is not finite."
                reached |= {name} if gradient.abs().sum() > 0 else set()
    return reached


def short_videos_train_and_score(method: Method) -> None:
    """Check T = 1 and T below any k of a top-k mean."""
    for length in (1, 2, 3, 7):
        total = losses_of(method.train(), example_for(method, length=length))["total"]
        assert total.isfinite(), f"The loss of videos of {length} rows is {total.item()}."
        method.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        for name, parameter in method.named_parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all(), (
                f"The gradient of {name!r} is not finite for videos of {length} rows."
            )
        _check_scores(method.eval().score(example(1, length).features[0]), length)


def _check_scores(scores: Scores, length: int) -> None:
    for name, shape in {"cas": (length, CLASSES), "attention": (length,)}.items():
        assert name in scores.signals, f"`score` gives no signal {name!r}, which the common localizer needs."
        values = scores.signals[name]
        found = tuple(values.shape)
        assert found == shape, f"The signal {name!r} of {length} rows has shape {found}, expected {shape}."
        assert bool(((values >= 0) & (values <= 1)).all()), f"The signal {name!r} leaves [0, 1]."
    for name, signal in scores.signals.items():
        assert len(signal) == length, f"The signal {name!r} has {len(signal)} rows for {length}."
        assert signal.isfinite().all(), f"The signal {name!r} is not finite."
    for name, values in {"video_scores": scores.video_scores, **scores.class_scores}.items():
        assert values.shape == (CLASSES,), f"`{name}` has shape {tuple(values.shape)}, expected ({CLASSES},)."
        assert values.isfinite().all(), f"`{name}` is not finite."
    low, high = scores.video_scores.aminmax()
    assert 0 <= low <= high <= 1 + 1e-6, f"`video_scores` go from {low.item()} to {high.item()}, out of [0, 1]."


def a_batch_without_labels_is_finite(method: Method) -> None:
    """Check that nothing divides by the number of labels. A supervised method's windows always have an instance."""
    if isinstance(method, SupervisedMethod):
        return
    total = method.losses(without_labels(example(supervision=method.supervision)))["total"]
    assert total.isfinite(), f"The loss of a batch without labels is {total.item()}."


def order_of_videos_changes_nothing(method: Method) -> None:
    """Check that losses do not depend on the order of videos, except that leading pairs (`Method.pairs`) stay pairs."""
    method.eval()
    pairs = method.pairs
    given = example_for(method, 2 * pairs + 3)
    order = [2 * pair + side for pair in reversed(range(pairs)) for side in (1, 0)]
    order += [2 * pairs + row for row in (2, 0, 1)]
    found, expected = losses_of(method, reordered(given, order)), losses_of(method, given)
    _close(found, expected, "of the same videos in another order")


def padding_changes_nothing(method: Method) -> None:
    """Check that rows of zeros have no effect, if the method treats them as padding (`Method.PADS`)."""
    if not method.PADS:
        return
    method.eval()
    given = example(2 * method.pairs + 3, supervision=method.supervision)
    longer = torch.cat([given.features, torch.zeros_like(given.features)], dim=1)
    padded = method.losses(replace(given, features=longer))
    _close(padded, method.losses(given), "with as many rows of padding again")


def the_seed_decides(cls: type[Method]) -> None:
    """Check that initial weights and training losses repeat exactly, so draws come only from torch's generators."""
    for first, second in zip(variants(cls), variants(cls), strict=True):
        _equal(first.state_dict(), second.state_dict(), "between two trainings with one seed")
        _equal(one_epoch(first, EPOCHS - 1), one_epoch(second, EPOCHS - 1), "in one epoch with one seed")


def steps_lower_the_loss(method: Method) -> None:
    """Check that a few steps of Adam, without dropout, lower the loss, unless it has jumps (`Method.SMOOTH`)."""
    if not method.SMOOTH:
        return
    method.eval()
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    given = example_for(method)
    before = losses_of(method, given)["total"].item()
    for _ in range(5):
        optimizer.zero_grad()
        losses_of(method, given)["total"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    after = losses_of(method, given)["total"].item()
    assert after < before, f"Five steps of Adam at 1e-3 take the loss from {before} to {after}."


def single_precision_agrees_with_double(method: Method) -> None:
    """Check that float32 loses no more digits than it must."""
    method.eval()
    expected = losses_of(copy.deepcopy(method).double(), example_for(method, dtype=torch.float64))
    found = {name: value.double() for name, value in losses_of(method, example_for(method)).items()}
    _close(found, expected, "in float32 beside float64", rtol=1e-4, atol=1e-5)


def weights_are_all_that_training_goes_on_from(method: Method) -> None:
    """Check that a run resumed from `state_dict` at the end of an epoch has exactly the same next two epochs."""
    for last in last_epochs(method):
        start = min(last, EPOCHS - 2)
        if 0 < start < EPOCHS - 2:  # of an earlier stage: a resume before its last epoch, and on into the next stage
            one_epoch(method, start - 1)
        resumed = type(method)(method.spec, WIDTH, CLASSES).train()
        resumed.load_state_dict(method.state_dict())
        for epoch in (start, start + 1):
            where = "in a new instance with the same `state_dict`: keep what training changes in parameters and buffers"
            _equal(one_epoch(resumed, epoch), one_epoch(method, epoch), where)
            _equal(resumed.state_dict(), method.state_dict(), where)


def what_is_exported_scores_alike(method: Method) -> None:
    """Check that `export_state` keeps all that scoring needs."""
    method.end_training()
    stored = {name: value.clone() for name, value in method.export_state().items()}
    restored = type(method)(method.spec, WIDTH, CLASSES).eval()
    missing, unexpected = restored.load_state_dict(stored, strict=False)
    assert not unexpected, f"export_state gives {unexpected}, which a new instance does not know."
    dropped = [name for name in method.state_dict() if name not in stored]
    assert missing == dropped, f"A new instance lacks {missing}, export_state drops {dropped}."
    features = example(1).features[0]
    scores, again = (
        one.signals | {"video_scores": one.video_scores}
        for one in (method.eval().score(features), restored.score(features))
    )
    _equal(again, scores, "under restored weights")


def terms_keep_their_names(method: Method) -> None:
    """Check that loss terms and diagnostics have the same names from the first step to the last."""
    fresh = type(method)(method.spec, WIDTH, CLASSES).train()
    fresh.start_epoch(0, EPOCHS)
    first = losses_of(fresh, example_for(fresh, stage=fresh.stage(0, EPOCHS))).keys()
    last = losses_of(method, example_for(method)).keys()
    assert first == last, f"The loss terms are {sorted(first)} in the first step, {sorted(last)} in the last."
    assert "total" in last, "`losses` gives no `total`."
    assert fresh.diagnostics().keys() == method.diagnostics().keys(), "`diagnostics` changes its names."


def scores_feed_the_localizers(method: Method) -> None:
    """Check scores with the method's own localizer for each family of data sets, and with the common ones."""
    video = Video("v", example(1).features[0].numpy(), (), 0.64)
    for family in FAMILIES:
        scores = list(score_videos(method, [video], method.recipe(family).train))
        for settings in (method.recipe(family).localizer, common_localizer(family)):
            found = localize(scores, settings, tuple("abcd"))
            assert np.isfinite(found.score).all(), f"A detection on {family} has a score that is not finite."
            assert (found.end > found.start).all(), f"A detection on {family} ends before it starts."


def _on_every_variant(check: Callable[[Method], None], cls: type[Method]) -> None:
    for method in variants(cls):
        check(method)


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        options_refuse_unknown_fields,
        recipes_cover_every_data_set,
        the_seed_decides,
        training_reads_no_file,
        batches_show_every_video,
    )
}
CHECKS |= {
    check.__name__: partial(_on_every_variant, check)
    for check in (
        losses_are_finite_with_gradient_to_every_parameter,
        short_videos_train_and_score,
        a_batch_without_labels_is_finite,
        order_of_videos_changes_nothing,
        padding_changes_nothing,
        steps_lower_the_loss,
        single_precision_agrees_with_double,
        weights_are_all_that_training_goes_on_from,
        what_is_exported_scores_alike,
        terms_keep_their_names,
        scores_feed_the_localizers,
    )
}
