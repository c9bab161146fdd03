from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.io.atomic import atomic_file, atomic_write, check_writable
from harness.io.encoding import canonical_json, pretty_json, sha256, sha256_file
from harness.io.reading import open_regular, read_json, read_limited, read_toml
from harness.io.text import printable
from wstal.errors import MissingDataError, StoreError, UserError


def test_write_makes_folders_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["c.json"]


def test_write_into_a_file_as_folder_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot write"):
        atomic_write(tmp_path / "file" / "x", b"")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    atomic_write(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_file_in_pieces_is_there_only_when_all_are_written(tmp_path: Path) -> None:
    def write(*pieces: bytes | BaseException) -> None:
        with atomic_file(tmp_path / "x") as file:
            for piece in pieces:
                if isinstance(piece, BaseException):
                    raise piece
                file.write(piece)

    write(b"one, ", b"two")
    for error in (ValueError("three"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            write(b"one, ", error)
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "one, two")]


def test_new_files_follow_the_umask(tmp_path: Path) -> None:
    atomic_write(tmp_path / "rmgcl-gksa", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "rmgcl-gksa").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_canonical_json_has_one_form_and_no_nan() -> None:
    assert canonical_json({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'.encode()
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(float("nan"))


def test_json_round_trip_and_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    atomic_write(path, pretty_json({"a": [1, 2]}))
    assert read_json(path) == {"a": [1, 2]}
    path.write_text('{"a": ')
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(path)
    with pytest.raises(UserError, match="Cannot read"):
        read_json(tmp_path / "absent.json")
    path.write_text("[" * 200_000)
    with pytest.raises(UserError, match=rf"{path} is not valid JSON"):
        read_json(path)


def test_a_folder_is_made_and_tried_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=rf"Cannot write to {tmp_path / 'file'}: .*Choose a folder that is writable"):
        check_writable(tmp_path / "file")

    def denied(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StoreError, match="Permission denied"):
        check_writable(tmp_path)


def test_digests_of_the_empty_string_are_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256(b"") == sha256_file(tmp_path / "empty") == known


def test_text_that_utf8_cannot_encode_is_refused_in_our_own_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(r'{"a": "\ud83d\ude00"}')  # both halves
    assert read_json(path) == {"a": "\U0001f600"}
    path.write_text(r'{"a": [{"\ud83d": 1}]}')
    with pytest.raises(UserError, match="has text that UTF-8 cannot encode"):
        read_json(path)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_limited(path, 5) == b"12345"
    with pytest.raises(UserError, match="more than the limit"):
        read_limited(path, 4)
    for absent in (tmp_path / "no", tmp_path / "x" / "no", tmp_path / "nul\0"):
        with pytest.raises(MissingDataError, match="is not there"):
            read_limited(absent)
    with pytest.raises(UserError, match=r"Cannot read .*: Not a regular file"):
        read_limited(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        open_regular(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"Cannot read .*pipe: Not a regular file"):
        sha256_file(tmp_path / "pipe")
    # no descriptor is left open
    assert not [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")
                and os.readlink(f"/proc/self/fd/{name}").startswith(str(tmp_path))]  # fmt: skip


def test_toml_is_read_with_the_file_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('a.b = [1, "x"]')
    assert read_toml(tmp_path / "a.toml") == {"a": {"b": [1, "x"]}}
    (tmp_path / "a.toml").write_text("a = ")
    with pytest.raises(UserError, match=r"a\.toml is not valid TOML \(Invalid value .*\)\. Mend it\.$"):
        read_toml(tmp_path / "a.toml", "Mend it.")


def test_printable_keeps_what_a_line_can_hold() -> None:
    assert printable("a b, \u00fc \u65e5 \U0001f600") == "a b, \u00fc \u65e5 \U0001f600"
    assert printable("a\nb\x1b[0m\udc80\u2028") == r"a\nb\x1b[0m\udc80\u2028"
    assert printable("x" * 300) == "x" * 197 + "..."
