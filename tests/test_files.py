"""Files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write, read_lines


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_keeps_what_it_held_until_the_new_one_is_whole(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(LookupError), atomic_write(path, shared=shared) as draft:
        _half(draft)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]
    with atomic_write(path, shared=shared) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]


def _half(draft: Path) -> None:
    draft.write_text("half")
    raise LookupError


def test_a_file_may_be_read_by_those_whom_the_umask_lets(tmp_path: Path) -> None:
    plain, private = tmp_path / "plain", tmp_path / "private"
    plain.touch()
    with atomic_write(private) as draft:
        draft.unlink()
        os.close(os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600))
    assert private.stat().st_mode == plain.stat().st_mode


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "none" / "file"):
        pass


def test_lines_come_without_blanks_and_bad_files_with_a_cure(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("one \n\n  two\n")
    assert read_lines(path, expected="a list", hint="mend it") == ["one", "two"]
    path.write_bytes(b"\xff\xfe\x00")
    for bad in (path, tmp_path / "gone.txt"):
        with pytest.raises(DataError, match="Expected a list") as caught:
            read_lines(bad, expected="a list", hint="mend it")
        assert str(caught.value).startswith(str(bad))
