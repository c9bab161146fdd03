from pathlib import Path

import pytest

from harness.data.label_table import read_labels
from harness.videos.folder import list_videos, subsets_of
from wstal.errors import MissingDataError, UserError


def folder(path: Path, *names: str, labels: str | None = None) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    if labels is not None:
        (path / "labels.csv").write_text(labels)
    return path


def test_videos_get_their_labels(tmp_path):
    table = "video,labels\nb.mp4,Jump; Run\na,Run\n\nc.mkv,\n"
    videos, notes = list_videos(folder(tmp_path, "b.mp4", "a.AVI", "c.mkv", "notes.txt", ".x.mp4", labels=table))
    assert [(video.name, video.labels) for video in videos] == [("a", ("Run",)), ("b", ("Jump", "Run")), ("c", ())]
    assert notes == []
    assert subsets_of(videos) == {"a": "training", "b": "training", "c": "test"}


def test_what_disagrees_is_told(tmp_path):
    videos, notes = list_videos(folder(tmp_path, "a.mp4", "b.mp4", labels="video,labels\na,Run\nz,Run\n"))
    assert [video.labels for video in videos] == [("Run",), ()]
    assert notes == [
        f"labels.csv names 1 videos that are not in {tmp_path}: z.",
        "1 videos are not in labels.csv and have no label: b.",
    ]
    _, notes = list_videos(folder(tmp_path / "more", "a.mp4"))
    assert "enough to predict, not to train" in notes[0]


def test_subsets_come_from_the_table_or_from_folders(tmp_path):
    table = "video,labels,subset\na,Run,test\nb,Run,\n"
    videos, _ = list_videos(folder(tmp_path, "train/a.mp4", "Val/b.mp4", "test/x/c.mp4", "d.mp4", labels=table))
    assert subsets_of(videos) == {"a": "test", "b": "validation", "c": "test", "d": "test"}


@pytest.mark.parametrize(("labels", "message"), [
    ("a.mp4,Run\n", r"begins with 'a.mp4,Run'. Expected a first line"),
    ("", "Expected a first line"),
    ("video,labels\na,Run,Jump\n", "line 2: 3 columns, expected 2. Separate labels by `;`"),
    ("video,labels\na,Run\na.mp4,Jump\n", "line 3: a was there before"),
    ("video,labels\n,Run\n", "line 2: `video`: expected a name"),
    ("video,labels\na,Ru\x07n\n", "control characters"),
    ("video,labels,subset\na,Run,dev\n", "`subset` is 'dev'"),
])  # fmt: skip
def test_a_table_of_another_form_is_refused(tmp_path, labels, message):
    folder(tmp_path, labels=labels)
    with pytest.raises(UserError, match=message):
        read_labels(tmp_path / "labels.csv")


def test_tables_of_spreadsheets_are_read(tmp_path):
    (tmp_path / "labels.csv").write_bytes('\ufeffVideo,Labels\r\n"a, b.mp4",Läufe;Jump\r\n'.encode())
    assert read_labels(tmp_path / "labels.csv") == {"a, b": (("Jump", "Läufe"), "")}
    (tmp_path / "labels.csv").write_text("video\tlabels\na\tRun;Jump\n")
    assert read_labels(tmp_path / "labels.csv") == {"a": (("Jump", "Run"), "")}


def test_no_videos_and_two_of_a_name_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="is not a folder"):
        list_videos(tmp_path / "absent")
    with pytest.raises(MissingDataError, match="No video in"):
        list_videos(tmp_path)
    with pytest.raises(UserError, match="both called a"):
        list_videos(folder(tmp_path, "x/a.mp4", "y/a.avi"))
