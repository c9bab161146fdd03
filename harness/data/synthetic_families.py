"""Synthetic data sets that stand for ActivityNet 1.3 and FineAction: many classes, videos stretched to T rows.

Their videos' durations, numbers of instances and covered fractions follow the published annotations. Contents lie
further apart than real ones, so that methods learn some hundred classes from two videos each within seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.data.source import Subset
from harness.data.synthetic_spec import SyntheticSpec, TimelineName
from harness.data.synthetic_timeline import TIMELINES, SubsetStatistics

# Sources: the annotations of ActivityNet 1.3 (training and validation) and of FineAction as HAAN has them, whose videos
# of three classes or more count as two-class. Spearman correlations are of each data set's both parts together.
ACTIVITYNET13_RANKS = ((1.0, 0.19, -0.11), (0.19, 1.0, -0.36), (-0.11, -0.36, 1.0))
FINEACTION_RANKS = ((1.0, 0.47, -0.31), (0.47, 1.0, -0.15), (-0.31, -0.15, 1.0))
STATISTICS: dict[TimelineName, dict[Subset, SubsetStatistics]] = TIMELINES | {
    "activitynet13": {
        "train": SubsetStatistics(
            duration=(1.4, 7.9, 18.17, 30.18, 61.47, 113.68, 172.51, 210.52, 224.07, 236.56, 754.97),
            instances=(1, 1, 1, 1, 1, 1, 1, 3, 4, 7, 23),
            covered=(0.003, 0.0312, 0.117, 0.2071, 0.4361, 0.7169, 0.9002, 0.9885, 0.9998, 1.0, 1.0),
            two_class_videos=6 / 10024,
            rank_correlation=ACTIVITYNET13_RANKS,
        ),
        "test": SubsetStatistics(
            duration=(1.1, 7.13, 17.27, 28.15, 60.27, 116.83, 175.41, 212.05, 225.6, 236.99, 745.43),
            instances=(1, 1, 1, 1, 1, 1, 1, 3, 4, 8, 18),
            covered=(0.003, 0.0254, 0.1231, 0.2091, 0.4439, 0.7233, 0.9033, 0.9896, 0.9998, 1.0, 1.0),
            two_class_videos=7 / 4926,
            rank_correlation=ACTIVITYNET13_RANKS,
        ),
    },
    "fineaction": {
        "train": SubsetStatistics(
            duration=(1.44, 15.1, 18.47, 23.73, 43.38, 101.53, 195.81, 342.68, 473.89, 926.81, 7579.4),
            instances=(1, 1, 1, 1, 1, 2, 6, 19, 32, 65, 338),
            covered=(0.0004, 0.0023, 0.0074, 0.0151, 0.0546, 0.2359, 0.648, 0.928, 0.9802, 0.9981, 1.0),
            two_class_videos=1047 / 8440,
            two_class_instances=2,
            rank_correlation=FINEACTION_RANKS,
        ),
        "test": SubsetStatistics(
            duration=(4.74, 14.79, 18.75, 23.17, 41.03, 89.06, 180.22, 301.42, 424.35, 775.06, 3668.1),
            instances=(1, 1, 1, 1, 1, 2, 5, 13, 27, 63, 171),
            covered=(0.0004, 0.0023, 0.0086, 0.0172, 0.0641, 0.2868, 0.7501, 0.9481, 0.9846, 0.9981, 1.0),
            two_class_videos=308 / 4174,
            two_class_instances=2,
            rank_correlation=FINEACTION_RANKS,
        ),
    },
}


@dataclass(frozen=True)
class Family:
    """Family of data sets that a synthetic one stands for.

    Args:
        title: its name for people.
        table: number of the paper's table of its results.
        spec: the small synthetic data set.
    """

    title: str
    table: str
    spec: SyntheticSpec


_EASY = {
    "width": 64,
    "resampled": True,
    "label_noise": 0.0,
    "context_strength": 0.2,
    "class_similarity": 0.2,
    # or methods without temporal convolutions, such as FAC-Net and ASL, find prominent phases alone
    "phase_similarity": 0.9,
    "recurring_background": 0.8,
    "content_strength": 4.0,
    "scene_noise": 0.3,
    "snippet_noise": 0.3,
    "scale": 4.0,
}
FAMILIES = {
    "activitynet13": Family(
        "ActivityNet 1.3",
        "II",
        SyntheticSpec(
            timelines="activitynet13",
            train_videos=400,
            test_videos=200,
            classes=200,
            max_length=75,
            # the seven areas of life of its taxonomy, of equal sizes here
            coarse=(28, 28, 28, 29, 29, 29, 29),
            **_EASY,
        ),
    ),
    "fineaction": Family(
        "FineAction",
        "III",
        SyntheticSpec(
            timelines="fineaction",
            train_videos=212,
            test_videos=106,
            classes=106,
            max_length=100,
            # its groups' sizes
            coarse=(10, 7, 6, 7, 7, 8, 5, 10, 7, 9, 8, 8, 10, 4),
            **_EASY,
        ),
    ),
}
"""Families beside THUMOS14 that have a synthetic stand-in."""
