"""Which stream of a file is read, broken transport streams and unfinished files, names, suffixes, encryption."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from muybridge.core.errors import DataError
from muybridge.media.transport_stream import find_gaps
from muybridge.media.video import Decoder, Video, find_videos
from tests.test_video import DECODERS, as_array
from tests.videos import ffmpeg_frames, images, sequential, write

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the program ffmpeg is not installed")
VIDEO_PID = 256  # by default in the muxer of FFmpeg


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A video of 64x48, with previews of 32x32 beside it, and in several containers."""
    folder = tmp_path_factory.mktemp("containers")
    main, small, cover = write(folder / "main.mp4"), write(folder / "small.mp4", size=(32, 32)), folder / "cover.png"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=128x128", "-frames:v", "1", cover)
    both = ("-i", small, "-i", main, "-map", "0", "-map", "1", "-c", "copy")
    first, second = "-disposition:v:0", "-disposition:v:1"
    ffmpeg(*both, folder / "preview.mp4")
    ffmpeg(*both, folder / "preview.ts")
    ffmpeg(*both, first, "0", second, "default", folder / "second_is_default.mkv")
    ffmpeg(*both, first, "default", second, "0", folder / "small_is_default.mkv")
    ffmpeg(*both, first, "0", second, "0", folder / "none_is_default.mkv")
    ffmpeg("-i", cover, "-i", main, "-map", "0", "-map", "1", "-c", "copy", first, "attached_pic", folder / "cover.mp4")
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", folder / "sound.mkv")
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-i", cover, "-map", "0", "-map", "1", *("-c:v", "png"), second[:-2] + ":0",
           "attached_pic", folder / "song.mp4")  # fmt: skip
    ffmpeg("-i", main, "-c", "copy", folder / "h264.ts")
    ffmpeg("-i", main, "-c", "copy", "-mpegts_m2ts_mode", "1", folder / "h264.m2ts")
    ffmpeg("-i", main, "-c:v", "mpeg2video", "-bf", "2", folder / "mpeg2.ts")
    ffmpeg("-i", main, "-c:v", "libx265", "-x265-params", "log-level=none:pools=1", folder / "hevc.ts")
    ffmpeg("-i", main, "-c:v", "mpeg2video", folder / "mpeg2.mpg")
    key = ("-encryption_key", "76a6c65c5ea762046bd749a2e632ccbb", "-encryption_kid", "a7e61c373e219033c21091fa607bf3b8")
    ffmpeg("-i", main, "-c", "copy", "-encryption_scheme", "cenc-aes-ctr", *key, folder / "encrypted.mp4")
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def main_frames(files: dict[str, Path]) -> np.ndarray:
    """The frames of the main video, decoded in order."""
    return np.stack(list(sequential(files["main.mp4"]).values()))


def frames(path: Path, decoder: Decoder = "pyav") -> np.ndarray:
    with Video(path, decoder=decoder) as video:
        return as_array(video.read(range(len(video))).pixels)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "name", ["preview.mp4", "preview.ts", "second_is_default.mkv", "none_is_default.mkv", "cover.mp4"]
)
def test_the_main_stream_is_read(files: dict[str, Path], main_frames: np.ndarray, name: str, decoder: Decoder) -> None:
    np.testing.assert_array_equal(frames(files[name], decoder), main_frames)
    if decoder == "pyav":
        np.testing.assert_array_equal(ffmpeg_frames(files[name]), main_frames)


def test_a_smaller_stream_that_is_marked_as_default_is_read(files: dict[str, Path]) -> None:
    truth = np.stack(list(sequential(files["small.mp4"]).values()))
    np.testing.assert_array_equal(frames(files["small_is_default.mkv"]), truth)
    np.testing.assert_array_equal(ffmpeg_frames(files["small_is_default.mkv"]), truth)


@pytest.mark.parametrize(("name", "content"), [("sound.mkv", "audio"), ("song.mp4", "audio and a still image")])
def test_sound_with_and_without_a_cover_is_no_video(files: dict[str, Path], name: str, content: str) -> None:
    with pytest.raises(DataError, match=f"the file holds {content} but no video"):
        Video(files[name])


def pid_of(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def transport_packets(path: Path, header: int = 0) -> list[bytes]:
    content, size = path.read_bytes(), 188 + header
    return [content[at : at + size] for at in range(0, len(content), size)]


@pytest.mark.parametrize(("name", "header"), [("h264.ts", 0), ("h264.m2ts", 4), ("mpeg2.ts", 0), ("hevc.ts", 0)])
def test_each_lost_packet_of_the_video_is_noticed(
    files: dict[str, Path], tmp_path: Path, name: str, header: int
) -> None:
    packets = transport_packets(files[name], header)
    video = [index for index, packet in enumerate(packets) if pid_of(packet[header:]) == VIDEO_PID]
    path = tmp_path / name
    for lost in range(len(packets)):
        path.write_bytes(b"".join(packets[:lost] + packets[lost + 1 :]))
        following = next((index for index in video if index > lost), None)
        is_gap = lost in video[1:] and following is not None  # without the first or the last nothing is skipped
        offsets = [(following - 1) * (188 + header) + header] if is_gap and following is not None else []
        assert find_gaps(path, VIDEO_PID) == (offsets, False)


@pytest.mark.parametrize("lost", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", ["h264.ts", "hevc.ts", "mpeg2.ts"])
def test_a_lost_packet_is_reported_with_its_second(
    files: dict[str, Path], tmp_path: Path, name: str, lost: float
) -> None:
    packets = transport_packets(files[name])
    video = [index for index, packet in enumerate(packets) if pid_of(packet) == VIDEO_PID]
    index = video[int(lost * len(video))]
    path = tmp_path / name
    path.write_bytes(b"".join(packets[:index] + packets[index + 1 :]))
    with av.open(str(files[name])) as container:
        stamps = [
            (p.pos, p.pts) for p in container.demux(video=0) if p.size and p.pos is not None and p.pts is not None
        ]
        time_base, start = container.streams.video[0].time_base, container.start_time or 0
    assert time_base is not None
    pts = [pts for position, pts in stamps if position <= 188 * index][-1]
    previous = [pts for position, pts in stamps if position < 188 * index][-1]  # a frame may be lost as a whole
    seconds = {f"{float(stamp * time_base) - start / 1e6:.2f}" for stamp in (pts, previous)}
    with pytest.raises(DataError, match=rf"the video is damaged at ({'|'.join(seconds)}) s: data is missing"):
        Video(path)


def test_several_lost_packets_are_counted(files: dict[str, Path], tmp_path: Path) -> None:
    packets = transport_packets(files["mpeg2.ts"])
    video = [index for index, packet in enumerate(packets) if pid_of(packet) == VIDEO_PID]
    lost = {video[len(video) // 4], video[len(video) // 2], video[3 * len(video) // 4]}
    path = tmp_path / "lossy.ts"
    path.write_bytes(b"".join(packet for index, packet in enumerate(packets) if index not in lost))
    with pytest.raises(DataError, match=r"damaged at \d\.\d\d s and 2 more places: .*ffmpeg -ss START -t SECONDS"):
        Video(path)


def test_bytes_lost_within_a_packet_are_noticed(files: dict[str, Path], tmp_path: Path) -> None:
    content = files["mpeg2.ts"].read_bytes()
    path = tmp_path / "short.ts"
    path.write_bytes(content[: 40 * 188 + 90] + content[40 * 188 + 100 :])
    assert find_gaps(path, VIDEO_PID)[0]
    with pytest.raises(DataError, match=r"the video is damaged at 0\.\d\d s"):
        Video(path)


def test_announced_jumps_and_repeated_packets_are_no_damage(files: dict[str, Path], tmp_path: Path) -> None:
    packets = transport_packets(files["h264.ts"])
    video = [index for index, packet in enumerate(packets) if pid_of(packet) == VIDEO_PID]
    path = tmp_path / "repeated.ts"
    path.write_bytes(b"".join([*packets[: video[9] + 1], *packets[video[9] :]]))
    assert find_gaps(path, VIDEO_PID) == ([], False)
    announced = next(index for index in video[5:] if packets[index][3] & 32 and packets[index][4])
    changed = bytearray(packets[announced])
    changed[5] |= 128
    path.write_bytes(b"".join([*packets[: announced - 1], bytes(changed), *packets[announced + 1 :]]))
    assert find_gaps(path, VIDEO_PID) == ([], False)


def test_a_transport_stream_that_ends_within_a_packet_is_cut_off(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "cut.ts"
    path.write_bytes(files["h264.ts"].read_bytes()[: 60 * 188 + 100])
    with pytest.raises(DataError, match=r"the file is cut off: it ends after \d+ readable frames"):
        Video(path)


def test_a_transport_stream_that_starts_late_is_refused_without_a_keyframe(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "late.ts"
    path.write_bytes(files["h264.ts"].read_bytes()[2500:])
    with pytest.raises(DataError, match=r"the size of its frames is unknown: .* missing, damaged or encrypted"):
        Video(path)


def test_an_mp4_without_its_index_is_called_cut_off(files: dict[str, Path], tmp_path: Path) -> None:
    content = files["main.mp4"].read_bytes()
    index = content.find(b"moov") - 4
    path = tmp_path / "interrupted.mp4"
    for end, message in (
        (index, r"cut off: it ends without an index \(moov\), as a recording that was interrupted"),
        (index + 100, rf"cut off: it ends at byte {index + 100} of {len(content)} or more, .*index \(moov\)"),
        (index // 2, rf"cut off: it ends at byte {index // 2} of {index} or more"),
    ):
        path.write_bytes(content[:end])
        with pytest.raises(DataError, match=message):
            Video(path)


@pytest.mark.parametrize("name", ["main.mp4", "none_is_default.mkv"])
def test_a_header_of_random_bytes_is_refused(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(random.Random(0).randbytes(256) + files[name].read_bytes()[256:])
    with pytest.raises(DataError, match="opening it as a video failed"):
        Video(path)


@pytest.mark.parametrize("name", ["mpeg2.mpg", "h264.ts"])
def test_program_and_transport_streams_are_found_behind_a_damaged_header(
    files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(random.Random(0).randbytes(256) + files[name].read_bytes()[256:])
    np.testing.assert_array_equal(frames(path), ffmpeg_frames(path))


def test_two_files_joined_by_cat_are_read_as_ffmpeg_reads_them(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "joined.mpg"
    path.write_bytes(2 * files["mpeg2.mpg"].read_bytes())
    assert len(frames(path)) == 80
    np.testing.assert_array_equal(frames(path), ffmpeg_frames(path))
    path = tmp_path / "joined.ts"
    path.write_bytes(2 * files["h264.ts"].read_bytes())
    with pytest.raises(DataError, match=r"damaged at 1\.\d\d s.*or two recordings are joined there"):
        Video(path)


@pytest.mark.parametrize("name", ["h264.mp4", "h264_open_gop.mkv", "mpeg4_b_frames.avi"])
def test_frames_read_in_order_one_by_one_equal_those_read_at_random(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, name=name)
    order = random.Random(0).sample(range(40), 40)
    with Video(path) as in_order, Video(path) as at_random:
        forward = [as_array(in_order.read([index]).pixels)[0] for index in range(40)]
        scattered = {index: as_array(at_random.read([index]).pixels)[0] for index in order}
    truth = sequential(path)
    for index, frame in enumerate(forward):
        np.testing.assert_array_equal(frame, truth[index])
        np.testing.assert_array_equal(scattered[index], truth[index])


SUFFIXES: dict[str, tuple[str, ...]] = {
    ".MP4": ("-c", "copy", "-f", "mp4"),
    ".m2v": ("-c:v", "mpeg2video"),
    ".vob": ("-c:v", "mpeg2video", "-f", "vob"),
    ".3gp": ("-c:v", "h263", "-s", "128x96"),
    ".wmv": ("-c:v", "wmv2"),
    ".flv": ("-c:v", "flv"),
    ".asf": ("-c:v", "msmpeg4v3"),
    ".ogv": ("-c:v", "libtheora"),
    ".MTS": ("-c", "copy", "-f", "mpegts"),
    ".mxf": ("-c:v", "mpeg2video"),
}


def test_files_are_found_by_suffix_in_any_case_and_read(files: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "jump"
    folder.mkdir()
    for suffix, options in SUFFIXES.items():
        ffmpeg("-i", files["main.mp4"], "-frames:v", "6", *options, folder / f"video{suffix}")
    for name in ("a.xyz", "b.XYZ", "c.doc"):
        (folder / name).write_text("text")
    found = find_videos(tmp_path)
    assert {path.suffix for path in found.files} == set(SUFFIXES)
    assert found.unread == {".xyz": 2, ".doc": 1}
    for path in found.files:
        np.testing.assert_array_equal(frames(path), ffmpeg_frames(path), err_msg=path.name)


def test_pixels_that_are_not_square_stay_as_stored(files: dict[str, Path], tmp_path: Path) -> None:
    """The ratio in the container counts, before that in the stream."""
    for name, options, ratio in (
        ("stream.mp4", ("-vf", "setsar=64/45"), 64 / 45),
        ("container.mp4", ("-aspect", "16:9", "-c", "copy"), 4 / 3),
        ("dvd.mpg", ("-aspect", "16:9", "-c:v", "mpeg2video"), 4 / 3),
        ("divx.avi", ("-vf", "setsar=2", "-c:v", "mpeg4"), 2.0),
    ):
        ffmpeg("-i", files["main.mp4"], "-frames:v", "6", *options, tmp_path / name)
        with Video(tmp_path / name) as video:
            assert video.pixel_aspect == pytest.approx(ratio)
            assert video.size == (48, 64)
        np.testing.assert_array_equal(frames(tmp_path / name), ffmpeg_frames(tmp_path / name))


NAMES = [
    *("http:x.mp4", "concat:main.mp4|main.mp4", "file:x.mp4", "pipe:0", "subfile,,start,0,end,0,,:x.mp4"),
    *("-i.mp4", "%03d.mp4", "new\nline.mp4", "*.mp4", "a?b#c.mp4"),
]


@pytest.mark.skipif(os.name == "nt", reason="such names do not exist there")
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", NAMES)
def test_names_like_protocols_are_files(
    files: dict[str, Path],
    main_frames: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    decoder: Decoder,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(files["small.mp4"], "main.mp4")  # what the protocol would lead to
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        Video(name)
    shutil.copy(files["main.mp4"], name)
    np.testing.assert_array_equal(frames(Path(name), decoder), main_frames)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.mp4")
    with pytest.raises(DataError, match=r"a pipe, a socket or a device\. .*Save the stream as a file first"):
        Video(tmp_path / "x.mp4")


def test_a_folder_with_the_name_of_a_video_is_a_folder_of_images(tmp_path: Path) -> None:
    folder = tmp_path / "x.mp4"
    folder.mkdir()
    with pytest.raises(DataError, match="contains no image"):
        Video(folder)
    for number, image in enumerate(images(3)):
        Image.fromarray(image).save(folder / f"{number}.png")
    np.testing.assert_array_equal(frames(folder), np.stack(images(3)))


def test_encrypted_video_is_refused(files: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"the video is encrypted\. Expected a video without copy protection"):
        Video(files["encrypted.mp4"])
