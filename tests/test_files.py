"""Files: atomic writes, lists, searching folders, and finding equal content."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from muybridge.core.errors import DataError
from muybridge.core.files import (
    atomic_write,
    describe_unread,
    find_duplicates,
    find_files,
    fingerprint,
    is_system_name,
    natural_key,
    read_lines,
    read_numbered_lines,
)


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_keeps_its_content_until_the_new_one_is_complete(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(LookupError), atomic_write(path, shared=shared) as draft:
        _write_half(draft)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]
    with atomic_write(path, shared=shared) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(tmp_path / "pipe") as draft:
        draft.write_text("all")
    assert os.read(reader, 10) == b"all"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def _write_half(draft: Path) -> None:
    draft.write_text("half")
    raise LookupError


def test_a_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    plain, private = tmp_path / "plain", tmp_path / "private"
    plain.touch()
    with atomic_write(private) as draft:
        draft.unlink()
        os.close(os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600))
    assert private.stat().st_mode == plain.stat().st_mode


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "none" / "file"):
        pass


# Lists


def test_lines_are_stripped_and_unreadable_files_have_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("one \n\n  two\n")
    assert read_lines(path, expected="a list", hint="fix it") == ["one", "two"]
    path.write_bytes(b"\xff\xfe\x00")
    for bad in (path, tmp_path / "gone.txt"):
        with pytest.raises(DataError, match="Expected a list") as caught:
            read_lines(bad, expected="a list", hint="fix it")
        assert str(caught.value).startswith(str(bad))


@pytest.mark.parametrize(
    "content",
    [
        b"caf\xc3\xa9 1\n\nb 2\n",
        b"\xef\xbb\xbfcaf\xc3\xa9 1\r\n\r\nb 2",
        b"caf\xc3\xa9 1\r\rb 2\r",
        "caf\u00e9 1\n\nb 2\n".encode("utf-16"),
        b"\xfe\xff" + "caf\u00e9 1\n\nb 2\n".encode("utf-16-be"),
    ],
    ids=["Unix", "Windows with a byte order mark", "old Mac", "UTF-16", "big-endian UTF-16"],
)
def test_lines_have_their_numbers_whatever_the_editor(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    assert read_numbered_lines(path, expected="", hint="") == [(1, "caf\u00e9 1"), (3, "b 2")]


def test_characters_that_are_no_line_ends_do_not_split_a_path(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a\u2028b\x0bc\x85d.mp4 1\n", encoding="utf-8")
    assert read_lines(path, expected="", hint="") == ["a\u2028b\x0bc\x85d.mp4 1"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"caf\xe9 1\n", "line 1 is not in UTF-8"),
        (b"a\0b\n", "it contains null characters, so it is not text"),
        (b"PK\x03\x04\x00\x00", "it contains null characters"),
    ],
    ids=["Latin-1", "binary", "zip"],
)
def test_what_is_not_utf8_text_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"list.txt: it cannot be read \(.*{reason}"):
        read_lines(path, expected="a list", hint="fix it")


@given(st.binary(max_size=60))
@example(b"\xff\xfe\xd8")
def test_any_bytes_are_lines_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.txt"
    path.write_bytes(content)
    try:
        lines = read_lines(path, expected="a list", hint="fix it")
    except DataError:
        return
    assert all(line and line == line.strip() for line in lines)


def test_numbers_in_names_are_compared_by_value() -> None:
    names = ["10", "9", "b2", "b10", "a", "b", "b02", "1x"]
    assert sorted(names, key=natural_key) == ["1x", "9", "10", "a", "b", "b02", "b2", "b10"]


# Searching folders


def _touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        *(".ipynb_checkpoints", ".Trash-1000", ".thumbnails", ".git", ".@__thumb", ".AppleDouble", ".Spotlight-V100"),
        *("@eaDir", "__MACOSX", "__macosx", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "lost+found"),
        *("#recycle", "@Recycle", "__pycache__"),
    ],
)
def test_hidden_and_system_folders_are_never_searched(tmp_path: Path, name: str) -> None:
    assert is_system_name(name)
    kept = _touch(tmp_path / "walk" / "a.mp4")
    for place in (tmp_path, tmp_path / "walk", tmp_path / "walk" / "deep" / "deeper"):
        _touch(place / name / "a.mp4")
        _touch(place / name / "more" / "notes.txt")
    found = find_files(tmp_path, {".mp4"})
    assert found.files == (kept,)
    assert not found.unread


def test_hidden_and_system_files_are_neither_found_nor_counted(tmp_path: Path) -> None:
    for name in ("._a.mp4", ".hidden.mp4", "Thumbs.db", "desktop.ini", ".DS_Store", "~$notes.docx"):
        _touch(tmp_path / name)
    assert find_files(tmp_path, {".mp4", ".db", ".docx"}) == find_files(_empty(tmp_path / "other"), {".mp4"})


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_only_files_are_found_whatever_folders_are_called(tmp_path: Path) -> None:
    inside = _touch(tmp_path / "x.mp4" / "y.MP4")
    (tmp_path / "empty.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    found = find_files(tmp_path, {".mp4"})
    assert found.files == (inside,)
    assert found.unread == {"empty folders": 1, "dangling links": 1, "special files": 1}


def test_other_files_are_counted_by_suffix(tmp_path: Path) -> None:
    for name in ("a.txt", "b.TXT", "c.docx", "README", "a.mp4.part"):
        _touch(tmp_path / "deep" / name)
    unread = find_files(tmp_path, {".mp4"}).unread
    assert unread == {".txt": 2, ".docx": 1, "no suffix": 1, ".part": 1}
    assert describe_unread(unread) == "5 files not read: 2 .txt, 1 .docx, 1 .part, 1 no suffix"
    assert describe_unread({".txt": 1}) == "1 file not read: 1 .txt"
    assert describe_unread({}) == ""


def test_loops_of_links_end_and_linked_folders_are_searched_once(tmp_path: Path) -> None:
    first = _touch(tmp_path / "data" / "walk" / "a.mp4")
    second = _touch(tmp_path / "elsewhere" / "b.mp4")
    (tmp_path / "data" / "aaa").symlink_to(tmp_path / "data")  # a loop, which sorts before the folders
    (tmp_path / "data" / "walk" / "again").symlink_to(tmp_path / "data" / "walk")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    found = find_files(tmp_path / "data", {".mp4"}).files
    assert found == (tmp_path / "data" / "linked" / "b.mp4", first)
    assert found[0].samefile(second)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path / "open" / "a.mp4")
    _touch(tmp_path / "closed" / "b.mp4")
    scan = os.scandir

    def refuse(path: Path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"closed: the folder cannot be read \(Permission denied\)"):
        find_files(tmp_path, {".mp4"})


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).touch()
    with pytest.raises(DataError, match=r"caf\\udce9.mp4: the name of the file is not valid UTF-8"):
        find_files(tmp_path, {".mp4"})


# Equal content


def test_equal_content_is_found_in_files_and_folders(tmp_path: Path) -> None:
    long = bytes(range(256)) * 2000
    changed = bytearray(long)
    changed[250_000] ^= 1  # neither in the first nor in the last 64 KiB
    copy = [_touch(tmp_path / name, long) for name in ("a", "b", "c")]
    other = _touch(tmp_path / "d", bytes(changed))
    frames = [tmp_path / "frames", tmp_path / "same", tmp_path / "different"]
    for folder in frames:
        for number in range(3):
            _touch(folder / f"{number}.jpg", bytes([number, folder.name == "different" and number == 1]))
    empty = [_touch(tmp_path / name, b"") for name in ("e", "f")]
    gone = tmp_path / "gone"
    duplicates = find_duplicates([*frames, *copy, other, *empty, gone, copy[0]])
    assert duplicates == [tuple(frames[:2]), tuple(copy)]
    assert fingerprint(copy[0]) == fingerprint(other) != fingerprint(frames[0])


def test_only_files_of_equal_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [_touch(tmp_path / str(size), b"x" * size) for size in range(1, 9)]

    def fail(*_: object, **__: object):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(Path, "open", fail)
    assert find_duplicates(paths) == []
