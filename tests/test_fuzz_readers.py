"""Whatever a file contains, a reader gives a value or an error of ours, in bounded time and memory.

Each format is fed any bytes, and valid files with pieces cut out, doubled, and put in the place of others. The number
of examples can be raised: ``MUYBRIDGE_FUZZ=20000 pytest tests/test_fuzz_readers.py``.
"""

import io
import json
import os
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from muybridge.core.errors import DataError, MuybridgeError
from muybridge.data.datasets import NTURGBD, VideoList, diving48, finegym, kinetics, kth, official_lists, something
from muybridge.engine.journal import Journal
from muybridge.media.arrays import ReadOptions
from muybridge.media.flow_store import StoredFlow
from muybridge.media.ntu import read_ntu
from muybridge.media.skeleton import read_skeleton
from muybridge.media.tubes import read_final_annots, read_json_tubes, read_viper
from tests.skeletons import figures, pixels

FUZZ = settings(
    max_examples=int(os.environ.get("MUYBRIDGE_FUZZ", "40")),
    deadline=None,
    derandomize="MUYBRIDGE_FUZZ" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
JOINTS = figures("kinect20", frames=3).round(4)

# What is put into valid files: numbers that are none, too large or too many, marks, brackets, other languages' digits.
TOKENS = [
    *(b"", b"0", b"-1", b"1_0", b"nan", b"-inf", b"1e999", b"9" * 30, b"9" * 5000, b"0x10", b"1.5", b"1,5", b"7.0"),
    *("²".encode(), "٣".encode(), b"\xef\xbb\xbf", b"\xff\xfe", b"\x00", b"\x1c", b"\r", b"\n\n", b" ", b"\t", b";"),
    *(b"[", b"]", b"{", b"}", b"[" * 3000, b'"', b"'", b"null", b"true", b"NaN", b"{}", b"[]", b'"x"', b",", b",,"),
    *(b"<", b"/>", b"&x;", b"2147483647", b"4294967296", b"1000000000", b"\xff\xff\xff\x7f", b"\xff" * 8, b"sep=;"),
]


def saved(write: Callable, *args, **kwargs) -> bytes:
    file = io.BytesIO()
    write(file, *args, **kwargs)
    return file.getvalue()


def ntu_file() -> bytes:
    body = ["72057594037931101 0 1 1 1 1 0 0.02 -0.2 2", "25", *["0.1 0.2 3.1 0 0 0 0 0 0 0 0 2"] * 25]
    return "\n".join(["2", "1", *body, "2", *body, *[body[0].replace("1 0", "2 0", 1), *body[1:]], ""]).encode()


def annotations() -> dict:
    boxes = np.array([[1, 2, 30, 40], [2, 3, 30, 40.0]])
    tubes = np.array([(1, 2, 3, boxes)], dtype=[(name, object) for name in ("sf", "ef", "class", "boxes")])
    video = ("Basketball/v_Basketball_g01_c01", 2, tubes)
    return {"annot": np.array([video], dtype=[(name, object) for name in ("name", "num_imgs", "tubes")])}


TUBES = {
    "labels": ["walk"],
    "frames": {"a": 2},
    "fps": {"a": 25.0},
    "tubes": [{"video": "a", "label": "walk", "score": 0.5, "first": 0, "boxes": [[0, 0, 5, 5], [1, 1, 6, 6]]}],
}
VIPER = """<?xml version="1.0"?><viper xmlns="v" xmlns:data="d"><data><sourcefile filename="x">
<file id="0"><attribute name="NUMFRAMES"><data:dvalue value="4"/></attribute></file>
<object framespan="1:4" id="0" name="PERSON"><attribute name="Location">
<data:bbox framespan="1:2" height="20" width="10" x="5" y="6"/>
<data:bbox framespan="3:4" height="20" width="9" x="5" y="6"/>
</attribute><attribute name="Biking"><data:bvalue framespan="1:3" value="true"/></attribute></object>
</sourcefile></data></viper>"""
STAMP = {"frames": 3, "height": 8, "width": 8, "method": "dis", "bound": 20.0}


@cache
def valid() -> dict[str, list[bytes]]:
    """Valid files of each format by the name under which they are read."""
    one, flat = JOINTS[:, 0], pixels(figures("coco17", frames=3)).round(1)
    csv = ["frame,person,joint,x,y,z"] + [
        f"{t},{p},{j},{','.join(map(str, JOINTS[t, p, j]))}" for t, p, j in np.ndindex(JOINTS.shape[:3])
    ]
    msr = "\n".join(" ".join(map(str, [*point, 1.0])) for point in one.reshape(-1, 3))
    sbu = "\n".join(",".join(map(str, [t, *frame[:, :15].flatten()])) for t, frame in enumerate(JOINTS))
    viper_fields = {"flow": np.full((2, 2, 8, 8), 128, np.uint8), "stamp": json.dumps(STAMP)}
    skel = one.transpose(1, 2, 0)
    return {
        "a.npz": [
            saved(np.savez, joints=JOINTS, present=np.ones((3, 2), bool)),
            saved(np.savez_compressed, joints=JOINTS),
        ],
        "a.npy": [saved(np.save, JOINTS), saved(np.save, np.asfortranarray(JOINTS.astype(np.float16)))],
        "a.json": [json.dumps(JOINTS.tolist()).encode(), json.dumps({"joints": flat[:, 0].tolist()}).encode()],
        "a.csv": ["\n".join(csv).encode(), "\n".join(csv).replace(",", ";").replace(".", ",").encode("utf-16")],
        "a.txt": [msr.encode(), sbu.encode()],
        "a.mat": [
            saved(scipy.io.savemat, {"d_skel": skel}),
            saved(scipy.io.savemat, {"d_skel": skel}, do_compression=True),
        ],
        "a.skeleton": [ntu_file()],
        "tubes.json": [json.dumps(TUBES).encode()],
        "finalAnnots.mat": [saved(scipy.io.savemat, annotations())],
        "v_Biking_g01_c01.xgtf": [VIPER.encode()],
        "flow.npz": [saved(np.savez, **viper_fields), saved(np.savez_compressed, **viper_fields)],
        "journal.jsonl": [b'{"event": "epoch", "epoch": 1, "train": {"loss": 1.5}}\n' * 2],
        "names.txt": [b"walk\nrun\nwave goodbye\n"],
        "list.txt": [b"a.mp4 0\nb c.mp4 1\n", b"a.mp4 12 0\nframes/b 7 2\n"],
        "00sequences.txt": [b"person01_boxing_d1\tframes\t1-12, 13-24\r\nperson13_handclapping_d3\t*missing*\r\n"],
        "jester.csv": [b"1;walk\n22;run\n"],
        "kinetics.csv": [b'label,youtube_id,time_start,time_end,split\n"walk, run",abc,1.0,11,train\n'],
        "dives.json": [b'[{"vid_name": "a_1", "label": 1, "start_frame": 0, "end_frame": 49}]'],
        "vocabulary.json": [b'[["Back", "15som"], ["Front", "15som"]]'],
        "something.json": [b'[{"id": "1", "template": "[walk]", "placeholders": []}]'],
        "classes.json": [b'{"walk": "0", "run": "1"}'],
        "categories.txt": [b"Clabel: 0; set: 1; Glabel: 1; (VT) walk\nClabel: 1; set: 1; Glabel: 2; (VT) walk\n"],
        "elements.txt": [b"ab_E_123456_E_000000_000002_A_0000_0001 1\n"],
        "annotation.json": [
            b'{"ab_E_123456": {"E_000000_000002": {"timestamps": [[0.5, 2.5]], "segments":'
            b' {"A_0000_0001": {"stages": 1, "timestamps": [[0.0, 0.8]]}}}, "E_1_2": {"timestamps": [[1, 2]]}}}'
        ],
        "missing.txt": [b"S001C001P001R001A001\nS001C001P001R001A002\n"],
    }


def read(path: Path) -> object:
    """The value of a file of any format; the video lists and names are those of a data set around them."""
    match path.name:
        case "tubes.json":
            return read_json_tubes(path)
        case "finalAnnots.mat":
            return read_final_annots(path)
        case "v_Biking_g01_c01.xgtf":
            return read_viper(path)
        case "flow.npz":
            return len(StoredFlow(path, bound=20.0))
        case "journal.jsonl":
            return Journal(path).rows()
        case "names.txt":
            return video_list(path.parent, classes=path).labels()
        case "list.txt":
            return video_list(path.parent).index("train")
        case "00sequences.txt":
            return kth._read_sequences(path, True, (1,))
        case "jester.csv":
            return official_lists.read_labelled_ids(path, ("walk", "run"), False)
        case "kinetics.csv":
            return kinetics._read_clips(path)
        case "dives.json":
            return diving48._read_dives(path, 3, False)
        case "vocabulary.json":
            return diving48._read_vocabulary(path)
        case "something.json":
            return something._read_items(path, ("walk",), False)
        case "classes.json":
            return something._read_numbers(path)
        case "categories.txt":
            return finegym._read_categories(path)
        case "annotation.json":
            return finegym._read_times(path)
        case "elements.txt":
            (info := path.parent / "annotation.json").write_bytes(valid()["annotation.json"][0])
            return finegym._read_elements(path, info, 3, False)
        case "missing.txt":
            return NTURGBD(root=path.parent, missing=path)._missing()
        case "a.skeleton":
            return read_ntu(path)
        case _:
            return read_skeleton(path)


def video_list(root: Path, **settings) -> VideoList:
    (root / "test.txt").write_text("z.mp4 1\n")
    return VideoList.model_validate({"root": root, "train": "list.txt", "classes": ["walk", "run", "jump"]} | settings)


def answers(folder: Path, name: str, content: bytes) -> object:
    """The value, or None for an error of ours; any other exception fails the test."""
    path = folder / name
    path.write_bytes(content)
    try:
        return read(path)
    except MuybridgeError as problem:
        error = problem
    assert all((error.problem, error.expected, error.hint))
    return None


FORMATS = sorted(valid())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", FORMATS)
def test_valid_files_are_read(folder, name):
    for content in valid()[name]:
        assert answers(folder, name, content) is not None


@pytest.mark.parametrize("name", FORMATS)
@FUZZ
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=200).map(str.encode)), after=st.booleans())
@example(content=b"", after=False)
@example(content=b"\x1c\x1c", after=False)
@example(content=b"\xff\xfe", after=False)
@example(content=b"[" * 100_000, after=False)
@example(content=b"9" * 10_000, after=False)
@example(content=("²" * 3).encode(), after=False)
def test_any_bytes_are_a_value_or_an_error(folder, name, content, after):
    start = valid()[name][0]
    answers(folder, name, start[: len(start) // 2] + content if after else content)


@st.composite
def damages(draw):
    """Where a file is changed, as shares of its length, and how."""
    place = st.floats(0, 1, exclude_max=True)
    change = st.one_of(
        st.tuples(st.just("token"), place, st.sampled_from(TOKENS), st.integers(0, 12)),
        st.tuples(st.just("byte"), place, st.binary(min_size=1, max_size=4), st.just(0)),
        st.tuples(st.just("cut"), place, st.just(b""), st.integers(1, 400)),
        st.tuples(st.just("end"), place, st.just(b""), st.just(0)),
        st.tuples(st.just("double"), place, st.just(b""), st.integers(1, 400)),
    )
    return draw(st.lists(change, min_size=1, max_size=3))


def damaged(content: bytes, changes: list) -> bytes:
    for kind, place, piece, length in changes:
        start = int(place * len(content))
        match kind:
            case "token" | "cut":
                content = content[:start] + piece + content[start + length :]
            case "byte":
                content = content[:start] + piece + content[start + len(piece) :]
            case "end":
                content = content[:start]
            case "double":
                content = content[: start + length] + content[start:]
    return content


@pytest.mark.parametrize("name", FORMATS)
@FUZZ
@given(changes=damages(), which=st.integers(0, 1))
def test_damaged_files_are_a_value_or_an_error(folder, name, changes, which):
    files = valid()[name]
    answers(folder, name, damaged(files[which % len(files)], changes))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@FUZZ
@given(changes=damages(), member=st.sampled_from(["joints.npy", "present.npy"]))
def test_damage_inside_an_archive_that_is_itself_sound(folder, compression, changes, member):
    with zipfile.ZipFile(io.BytesIO(valid()["a.npz"][0])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[member] = damaged(members[member], changes)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    answers(folder, "a.npz", file.getvalue())


@pytest.mark.parametrize("name", ["a.mat", "finalAnnots.mat"])
@FUZZ
@given(changes=damages())
def test_damage_inside_a_compressed_variable(folder, name, changes):
    """Compression that is itself sound, so that SciPy gets to see what it contains."""
    content = valid()[name][0]
    body = zlib.compress(damaged(content[128:], changes))
    answers(folder, name, content[:128] + struct.pack("<II", 15, len(body)) + body)


@FUZZ
@given(
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=6),
    kind=st.sampled_from(["f2", "f4", "f8", "i1", "u8", "?", "c8", "U3", "S2", "m8[s]", "f16", "V5"]),
    axes=st.sampled_from(["", "TVC", "MTVC", "CTVM", "NCTVM"]),
    coordinates=st.sampled_from([0, 2, 3]),
    up=st.sampled_from(["", "x", "z"]),
    seed=st.integers(0, 9),
)
def test_arrays_of_any_shape_and_type(folder, shape, kind, axes, coordinates, up, seed):
    rng = np.random.default_rng(seed)
    content = rng.bytes(int(np.prod(shape)) * np.dtype(kind).itemsize)
    array = np.frombuffer(content, dtype=kind).reshape(shape) if content else np.zeros(shape, dtype=kind)
    np.save(folder / "a.npy", array)
    try:
        sequence = read_skeleton(folder / "a.npy", ReadOptions(axes, coordinates, up))
    except DataError:
        return
    assert sequence.joints.isfinite().all()
    assert sequence.joints.shape[-1] in (2, 3)
    assert not sequence.joints[~sequence.present].any()


# Bounded memory


def npy_header(shape: str, dtype: str = "<f8", body: bytes = b"") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def npz_with(member: bytes, name: str = "joints.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member)
    return file.getvalue()


def mat_with(before: bytes, after: bytes, name: str) -> bytes:
    content = valid()[name][0]
    assert content.count(before)
    return content.replace(before, after)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", npy_header("(1000000000, 1, 20, 3)"), "announces 1000000000 x 1 x 20 x 3 of float64"),
        ("a.npy", npy_header("(-1, 1, 20, 3)"), "announces -1 x 1"),
        ("a.npy", npy_header("(2, 1, 1, 3)", "<U100000000"), "too short"),
        ("a.npz", npz_with(npy_header("(1000000000, 1, 20, 3)")), "announces 1000000000 x 1 x 20 x 3"),
        ("a.npz", npz_with(npy_header("(200000, 1, 20, 3)") + bytes(10**6)), "announces 200000 x 1"),
        ("flow.npz", npz_with(npy_header("(1000000000, 2, 8, 8)", "|u1"), "flow.npy"), "announces 1000000000 x 2 x 8"),
        ("a.skeleton", b"1000000000\n1\n", "announces 1000000000 frames in 2 lines"),
        ("a.skeleton", b"2\n1000000000\n1\n25\n", "the file ends at line 4"),
        ("a.skeleton", b"2\n1\n1 0\n1000000000\n", "announces 1000000000 joints"),
        ("a.csv", b"frame,joint,x,y\n0,0,1,2\n1000000000,0,1,2\n", "of the 1000000001 frames from 0"),
        ("a.csv", b"frame,joint,x,y\n0,0,1,2\n0,1000000000,1,2\n", "2 lines are for 1 frames, 1 people and 1000000001"),
        (
            "a.csv",
            b"frame,person,joint,x,y\n" + b"".join(b"%d,p%d,%d,1,2\n" % (n, n, n) for n in range(500)),
            "500 lines are for 500 frames, 500 people and 500 joints",
        ),
        (
            "a.json",
            b"[" + b"[]," * 2_000 + b"[[[1,2],[3,4]]" + b",null" * 2_000 + b"]]",
            "1 people are listed in 2001 frames, and up to 2001 in one",
        ),
        ("a.mat", mat_with(struct.pack("<iii", 20, 3, 3), struct.pack("<iii", 20, 3, 2**28), "a.mat"), "20 x 3 x 268"),
        (
            "a.mat",  # the class becomes that of cells
            mat_with(
                struct.pack("<IIIIIiii", 6, 8, 6, 0, 5, 12, 20, 3)[:8] + b"\x06", b"\x06\0\0\0\x08\0\0\0\x01", "a.mat"
            ),
            "MATLAB",
        ),
        (
            "finalAnnots.mat",
            mat_with(struct.pack("<IIii", 5, 8, 1, 1), struct.pack("<IIii", 5, 8, 1, 2**27), "finalAnnots.mat"),
            "1 x 134217728 arrays in",
        ),
        (
            "v_Biking_g01_c01.xgtf",
            VIPER.replace("3:4", "3:1000000000").encode(),
            "the span 3:1000000000 has more than 1000000 frames",
        ),
        (
            "v_Biking_g01_c01.xgtf",
            b'<!DOCTYPE x [<!ENTITY a "'
            + b"x" * 100
            + b'">'
            + b"".join(b'<!ENTITY %c "%s">' % (97 + n, b"&%c;" % (96 + n) * 50) for n in range(1, 8))
            + b"]><x>&h;</x>",
            "not readable as ViPER annotations",
        ),
        ("tubes.json", json.dumps(TUBES).replace("0.5", "9" * 400).encode(), "not readable as tubes"),
    ],
)
def test_what_a_header_announces_is_not_allocated(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.mat", "finalAnnots.mat"])
@pytest.mark.parametrize("change", [lambda c: c[138:], lambda c: c[:126] + b"XX" + c[128:]])
def test_matlab_files_of_other_versions_are_refused(tmp_path, name, change):
    (tmp_path / name).write_bytes(change(valid()[name][0]))
    with pytest.raises(DataError, match=r"the header is not that of version 5 to 7"):
        read(tmp_path / name)


def test_matlab_arrays_nested_without_end_are_refused(tmp_path):
    body = b""
    for _ in range(2000):
        header = struct.pack("<IIII", 6, 8, 1, 0) + struct.pack("<IIii", 5, 8, 1, 1) + struct.pack("<II", 1, 0)
        body = struct.pack("<II", 14, len(header) + len(body)) + header + body
    (tmp_path / "a.mat").write_bytes(valid()["a.mat"][0][:128] + body)
    with pytest.raises(DataError, match=r"arrays are nested more than 50 times"):
        read_skeleton(tmp_path / "a.mat")


def test_an_archive_that_unpacks_to_gigabytes_is_refused(tmp_path):
    """Three gigabytes of zeros in three megabytes; its directory says so."""
    content = bytearray(npz_with(npy_header("(5000000, 1, 20, 3)") + bytes(1000)))
    at = content.rfind(b"PK\x01\x02") + 24  # the size in the directory
    content[at : at + 4] = struct.pack("<I", 2_400_000_128)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="joints would take 2400000128 bytes"):
        read_skeleton(tmp_path / "a.npz")
