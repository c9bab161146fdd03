"""Named evaluation protocols. Published protocols give results that differ by several points of mAP.

A protocol is a value. The code that applies it is in `matching`, `average_precision` and `evaluate`. A published number
belongs to the protocol of its source, so numbers under two protocols are never subtracted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from wstal.errors import UserError
from wstal.evaluation.absent_videos import ACTIVITYNET13_ABSENT
from wstal.evaluation.tiou import parse_tious
from wstal.types import GroundTruth

# Their annotations are known to be wrong: 22 of 29 instances of 0000270 start after its end.
WRONG_VIDEOS = frozenset({"video_test_0000270", "video_test_0001496"})
# Has Ambiguous intervals only: no published list holds it, some annotation files do.
WITHOUT_INSTANCE = frozenset({"video_test_0001292"})
THUMOS14_CLASSES = frozenset(
    ("BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving", "CricketBowling", "CricketShot",
     "Diving", "FrisbeeCatch", "GolfSwing", "HammerThrow", "HighJump", "JavelinThrow", "LongJump", "PoleVault",
     "Shotput", "SoccerPenalty", "TennisSwing", "ThrowDiscus", "VolleyballSpiking")
)  # fmt: skip
INSTANCES = {210: 3311, 212: 3358, 4427: 6836}  # in the published lists of test videos, by their length
THUMOS14_VIDEO = re.compile(r"video_(test|validation)_\d{7}")


@dataclass(frozen=True)
class Protocol:
    """Rules by which detections are matched, counted and averaged.

    Args:
        name: as users type it and as results are labelled.
        meaning: description in one line.
        source: publication or code that defines it.
        defined_on: data set whose videos, classes and instances it is defined on. Empty: any.
        excluded_videos: videos removed from the ground truth and the detections.
        expected_videos: number of videos in the published list. None: any list.
        matching: how detections and instances are paired. `best`: detections, best score first, take the free instance
            of the largest tIoU. `first`: they take the free instance that is listed first. `instances`: instances, in
            file order, take the free detection of the largest overlap.
        ties: which of two instances with the same tIoU a detection takes under `best`: the `earlier` in file order, or
            the one that the `released` ActivityNet evaluator takes (see `ties.released_order`).
        strict: the tIoU must exceed the threshold. False: it may equal it.
        precision: `envelope` is the area under the monotone precision (PASCAL VOC since 2010), `raw` the area under the
            precision itself, `eleven-point` the mean at recall 0, 0.1, ..., 1 (PASCAL VOC until 2009).
        ambiguous: what happens to a detection that overlaps an Ambiguous interval. `count`: nothing. `drop`: it is
            removed. `excuse`: it is not counted unless it is a hit.
        segments_per_second: clock of evaluation in whole segments. None: seconds.
        drops_unlisted: detections in other videos are removed. False: they count as false positives, as in the released
            ActivityNet evaluator (P-MIL's published 43.0 counts those in the two removed videos).
    """

    name: str
    meaning: str
    source: str
    defined_on: Literal["", "thumos14", "activitynet13"] = "thumos14"
    excluded_videos: frozenset[str] = WITHOUT_INSTANCE
    expected_videos: int | None = 212
    matching: Literal["best", "first", "instances"] = "best"
    ties: Literal["released", "earlier"] = "released"
    strict: bool = False
    precision: Literal["envelope", "raw", "eleven-point"] = "envelope"
    ambiguous: Literal["count", "drop", "excuse"] = "count"
    segments_per_second: float | None = None
    drops_unlisted: bool = True

    @property
    def rules(self) -> tuple[object, ...]:
        """Rules of matching and counting, which protocols on other lists of videos may share."""
        return self.matching, self.ties, self.strict, self.precision, self.ambiguous, self.segments_per_second

    def inapplicable(self, ground_truth: GroundTruth) -> str | None:
        """Return why the protocol cannot evaluate these videos, or None if it can."""
        if self.defined_on and (why := self._other_than_defined(ground_truth)) is not None:
            return why
        if self.ambiguous != "count" and not len(ground_truth.ambiguous):
            return "it needs the Ambiguous intervals (Ambiguous_test.txt beside the annotations)"
        return None

    def _other_than_defined(self, ground_truth: GroundTruth) -> str | None:
        """Return why the truth is not that of the list; a part of THUMOS14's videos is accepted."""
        thumos14 = self.defined_on == "thumos14"
        if is_thumos14(ground_truth.videos) != thumos14:
            return f"it is defined on {'THUMOS14' if thumos14 else 'ActivityNet 1.3'}'s videos only"
        if thumos14 and (other := sorted(set(ground_truth.classes) - THUMOS14_CLASSES)):
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            return f"it is defined on THUMOS14's 20 classes, and {other[0]!r}{more} is no class of THUMOS14"
        if (videos := self.expected_videos) is None:
            return None
        listed = {i for i, video in enumerate(ground_truth.videos) if video not in self.excluded_videos}
        found, wanted = sum(video in listed for video in ground_truth.video.tolist()), INSTANCES[videos]
        part = thumos14 and len(listed) < videos and found <= wanted
        if not part and (len(listed), found) != (videos, wanted):
            return (
                f"it is defined on {'THUMOS14' if thumos14 else 'ActivityNet 1.3'}'s {wanted:,} instances in "
                f"{videos:,} {'test' if thumos14 else 'validation'} videos, and this truth has {found:,} instances in "
                f"{len(listed):,} videos"
            )
        return None


ANET = "ActivityNet evaluator (activitynet/ActivityNet, Evaluation/eval_detection.py)"
SEGMENTS_PER_SECOND = 25 / 16
_on_210_videos = partial(Protocol, excluded_videos=WITHOUT_INSTANCE | WRONG_VIDEOS, expected_videos=210)
# the evaluators of FAC-Net and W-TALC on the list of BaS-Net and STPN; their code scores all 212 videos
SEGMENTS_BEST = _on_210_videos(
    name="segments-best",
    meaning="whole segments of 16/25 s, best free instance, 210 videos, Ambiguous detections removed",
    source="FAC-Net and RSKP (LeonHLJ/RSKP, evaluation/detectionMAP.py)",
    ties="earlier",
    ambiguous="drop",
    segments_per_second=SEGMENTS_PER_SECOND,
)
SEGMENTS_FIRST = _on_210_videos(
    name="segments-first",
    meaning="whole segments of 16/25 s, first instance that reaches the tIoU, AP without interpolation",
    source="W-TALC (sujoyp/wtalc-pytorch, detectionMAP.py)",
    matching="first",
    precision="raw",
    ambiguous="drop",
    segments_per_second=SEGMENTS_PER_SECOND,
)
ON_212 = "on all 212 videos, as in its source"
_on_212 = partial(replace, excluded_videos=WITHOUT_INSTANCE, expected_videos=212)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="anet",
            meaning="ActivityNet evaluator on the ground truth as given, any data set",
            source=ANET,
            defined_on="",
            excluded_videos=frozenset(),
            expected_videos=None,
            drops_unlisted=False,
        ),
        Protocol(
            name="anet-4427",
            meaning="ActivityNet evaluator on 4,427 validation videos of ActivityNet 1.3 (6,836 instances)",
            source=f"{ANET}; list of ACM-Net, ASM-Loc and RSKP (ispc-lab/ACM-Net, gt.json)",
            defined_on="activitynet13",
            excluded_videos=ACTIVITYNET13_ABSENT,
            expected_videos=4427,
        ),
        _on_210_videos(
            name="anet-210",
            meaning="ActivityNet evaluator on 210 THUMOS14 videos (3,311 instances), two wrong ones removed",
            source=f"{ANET}; list of BaS-Net and STPN",
            drops_unlisted=False,
        ),
        Protocol(
            name="anet-212",
            meaning="ActivityNet evaluator on all 212 THUMOS14 test videos (3,358 instances)",
            source=f"{ANET}; list of ACM-Net and ASM-Loc",
            drops_unlisted=False,
        ),
        _on_210_videos(
            name="anet-210-ambiguous",
            meaning="anet-210 without the detections that overlap an Ambiguous interval",
            source=f"{ANET}; filter of CO2-Net and D2-Net, in seconds",
            ambiguous="drop",
            drops_unlisted=False,
        ),
        SEGMENTS_BEST,
        _on_212(SEGMENTS_BEST, name="segments-best-212", meaning=f"segments-best {ON_212}"),
        SEGMENTS_FIRST,
        _on_212(SEGMENTS_FIRST, name="segments-first-212", meaning=f"segments-first {ON_212}"),
        Protocol(
            name="thumos14-kit-2014",
            meaning="official THUMOS14 kit of 2014: 11-point AP, instances choose, Ambiguous excused, 212 videos",
            source="THUMOS14 evaluation kit (TH14evaldet.m, TH14eventdetpr.m), as Octave runs it",
            matching="instances",
            strict=True,
            precision="eleven-point",
            ambiguous="excuse",
        ),
    )
}

THUMOS_TIOUS = parse_tious("0.1:0.1:0.7")
ACTIVITYNET_TIOUS = parse_tious("0.5:0.05:0.95")


def default_tious(dataset: str) -> tuple[float, ...]:
    """Return the tIoU thresholds at which a family of data sets is reported.

    These are 0.5:0.05:0.95 for ActivityNet and FineAction, and 0.1:0.1:0.7 for THUMOS14 and all others.

    Example:
        >>> [round(tiou, 2) for tiou in default_tious("thumos14")]
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    """
    return ACTIVITYNET_TIOUS if dataset.startswith(("activitynet", "fineaction")) else THUMOS_TIOUS


def is_thumos14(videos: Iterable[str]) -> bool:
    """Return whether all names are names of THUMOS14 videos.

    Example:
        >>> is_thumos14(["video_test_0000004"]), is_thumos14(["v_abc"])
        (True, False)
    """
    return all(THUMOS14_VIDEO.fullmatch(video) for video in videos)


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        UserError: there is none.

    Example:
        >>> get_protocol("anet-210").expected_videos
        210
    """
    if name not in PROTOCOLS:
        close = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"Unknown protocol {name!r}.{hint} There are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def protocols_for(ground_truth: GroundTruth) -> tuple[Protocol, ...]:
    """Return every protocol that can evaluate these videos.

    `anet` always can. The others need THUMOS14 videos, and some need Ambiguous intervals too.

    Example:
        >>> import numpy as np
        >>> none = np.zeros(0, dtype=np.int64)
        >>> truth = GroundTruth(("v",), (), none, none, np.zeros(0), np.zeros(0), ambiguous=np.zeros((0, 3)))
        >>> [protocol.name for protocol in protocols_for(truth)]
        ['anet']
    """
    return tuple(protocol for protocol in PROTOCOLS.values() if protocol.inapplicable(ground_truth) is None)
