"""Scoring one video of 750 rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.data.synthetic import EmbeddedSource
from harness.registry import load_method, weak_methods
from harness.runs.scoring import score_videos
from harness.runs.spec import plan_run
from harness.studies.cost import Setting, build
from tests.benchmarks import plain
from tests.benchmarks.hardware import Machine
from tests.benchmarks.measure import aim, flops, in_turns, note_compute, scaling
from wstal.method import Method
from wstal.types import Video

TIME, WIDTH, CLASSES = 750, 2048, 20
METHODS = tuple(weak_methods())


def scorer(method: Method, features: Tensor) -> Callable[[], Any]:
    @torch.no_grad()
    def score() -> Any:
        return method.score(features)

    return score


def plain_scorer(method: Any, features: Tensor) -> Callable[[], Any]:
    """ACM-Net's scores, which are those of our main branch too, class by class."""
    base = getattr(method, "base", method)

    @torch.no_grad()
    def score() -> dict[str, Tensor]:
        _, attention, cas = plain.acmnet_pass(base, features.unsqueeze(0))
        video = plain.video_scores(cas[0], attention[0], 0)
        weighted = (cas[0] * attention[0, :, :1]).softmax(dim=1)
        return {"cas": weighted[:, :-1], "attention": attention[0, :, 0], "video": video[:-1]}

    return score


def compare(benchmark: Any, machine: Machine, method: Method, width: int) -> None:
    method.eval()
    features = torch.rand(TIME, width)
    score, others = scorer(method, features), {}
    if method.name in ("acmnet", "rmgcl-gksa"):
        others["loops"] = plain_scorer(method, features)
        found, expected = score(), others["loops"]()
        for name, signal in found.signals.items():
            torch.testing.assert_close(signal, expected[name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.video_scores, expected["video"], rtol=1e-4, atol=1e-6)
    note_compute(benchmark, machine, flops(score), in_turns(benchmark, score, others, rounds=9))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="inference: a video [750, 128]")
@pytest.mark.parametrize("name", METHODS)
def test_embedded_inference(benchmark: Any, machine: Machine, embedded: EmbeddedSource, name: str) -> None:
    options = plan_run(name, 0, embedded, {}).recipe.method
    torch.manual_seed(0)
    method = load_method(name)(options, embedded.spec.width, len(embedded.classes))
    compare(benchmark, machine, method, embedded.spec.width)


@pytest.mark.benchmark(group="inference: a video [750, 2048]")
@pytest.mark.parametrize("name", ["acmnet", "rmgcl-gksa"])
def test_full_size_inference(benchmark: Any, machine: Machine, name: str) -> None:
    method, _ = build(load_method(name), "test", Setting("thumos14", TIME, CLASSES), WIDTH)
    compare(benchmark, machine, method, WIDTH)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.benchmark(group="growth")
def test_scoring_grows_with_the_number_of_videos(benchmark: Any) -> None:
    """ACM-Net on videos of 30 rows and 16 columns, 10 to 5,000 of them."""
    recipe = load_method("acmnet").recipe("thumos14")
    method = load_method("acmnet")(recipe.method, 16, CLASSES)
    videos = [Video(str(number), torch.rand(30, 16).numpy(), (0,), 0.64) for number in range(5000)]
    exponent = scaling(benchmark, [10, 100, 1000, 5000], lambda n: list(score_videos(method, videos[:n], recipe.train)))
    aim(benchmark, "exponent", exponent, at_most=1.15)
