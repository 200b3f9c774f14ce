"""Damaged, cut, empty and mislabelled files raise a DataError that names the file; no frame is invented."""

import random
import shutil
import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from muybridge.core.errors import DataError
from muybridge.media.video import Decoder, Video
from tests.test_video import DECODERS, as_array
from tests.videos import CODECS, images, sequential, write

CLOSED_BY_TABLES = [name for name in CODECS if not name.endswith(".mp4")]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("intact")
    files = {name: write(folder / name, name=name) for name in CODECS}
    files["faststart.mp4"] = write(folder / "faststart.mp4")
    rewrap(files["h264.mp4"], files["faststart.mp4"], {"movflags": "faststart"})
    files["fragments.mp4"] = folder / "fragments.mp4"
    rewrap(files["h264_short_gop.mp4"], files["fragments.mp4"], {"movflags": "frag_keyframe+empty_moov"})
    return files


def rewrap(source: Path, target: Path, options: dict[str, str]) -> None:
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                new.mux(packet)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        Video(path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert refused.value.hint
    return message


@pytest.mark.parametrize("share", [0.95, 0.6, 0.3])
@pytest.mark.parametrize("name", [*CODECS, "faststart.mp4", "fragments.mp4"])
def test_a_cut_file_is_refused_when_it_is_opened(
    intact: dict[str, Path], tmp_path: Path, name: str, share: float
) -> None:
    content = intact[name].read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"cut off|opening it as a video failed|but no video|Expected a video stream"):
        Video(path)


def test_an_mp4_without_its_samples(intact: dict[str, Path], tmp_path: Path) -> None:
    content = intact["faststart.mp4"].read_bytes()
    path = tmp_path / "header.mp4"
    path.write_bytes(content[: content.find(b"mdat") + 4])
    with pytest.raises(DataError, match="cut off: it ends after 0 readable frames"):
        Video(path)


def test_a_file_of_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(DataError, match="the file is empty"):
        Video(tmp_path / "empty.mp4")


def test_a_file_that_is_gone(intact: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "gone.mp4"
    shutil.copy(intact["h264.mp4"], path)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot be read \(No such file.*index the folder again"):
        Video(path)


def test_a_text_that_is_called_mp4(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video\n" * 200)
    assert "opening it as a video failed" in refusal(path)


@pytest.mark.parametrize(
    "content", ["#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nother.ts\n", "ffconcat version 1.0\nfile other.mp4\n"]
)
def test_a_list_of_other_files_is_not_followed(intact: dict[str, Path], tmp_path: Path, content: str) -> None:
    shutil.copy(intact["h264.mp4"], tmp_path / "other.mp4")
    shutil.copy(intact["h264.mp4"], tmp_path / "other.ts")
    path = tmp_path / "list.mp4"
    path.write_text(content)
    assert "opening it as a video failed" in refusal(path)


def test_an_image_that_is_called_mp4(tmp_path: Path) -> None:
    path = tmp_path / "photo.mp4"
    Image.fromarray(images(1)[0]).save(path, format="PNG")
    assert "opening it as a video failed" in refusal(path)


def test_sound_alone(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        container.mux([*stream.encode(silence), *stream.encode(None)])
    assert "the file holds audio but no video" in refusal(path)


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4.avi", "palette.gif"])
def test_a_single_frame(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, 1, name=name)
    with pytest.raises(DataError, match=r"a single frame.*at least two"):
        Video(path)


@pytest.mark.parametrize(
    ("name", "size"), [("mjpeg.avi", (4320, 7680)), ("mjpeg.avi", (2, 2)), ("palette.gif", (1, 1))]
)
def test_frames_too_large_and_too_small(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    path = write(tmp_path / name, 2, name=name, size=size)
    with pytest.raises(DataError, match=rf"{size[1]}x{size[0]} pixels.*at most 4096x4096"):
        Video(path)


def test_a_frame_past_the_end(intact: dict[str, Path]) -> None:
    with Video(intact["h264.mp4"]) as video:
        for index in (40, -1):
            with pytest.raises(DataError, match=f"frame {index} was requested.*0 to 39"):
                video.read([3, index])


def test_damage_is_refused_only_where_it_is(intact: dict[str, Path], tmp_path: Path) -> None:
    """One frame in the last group is overwritten: the groups before it are unaffected, the frame itself is refused."""
    content = bytearray(intact["h264_short_gop.mp4"].read_bytes())
    with av.open(str(intact["h264_short_gop.mp4"])) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][35]
        assert packet.is_keyframe
        assert packet.pos is not None
        content[packet.pos + packet.size // 3 : packet.pos + packet.size] = bytes(packet.size - packet.size // 3)
    path = tmp_path / "scratched.mp4"
    path.write_bytes(content)
    with Video(path) as video:
        kept = sequential(intact["h264_short_gop.mp4"], {2, 20})
        np.testing.assert_array_equal(as_array(video.read([2, 20]).pixels), [kept[2], kept[20]])
        with pytest.raises(DataError, match=r"frame 35 of 40 \(at 1\.40 s\) is damaged|decoding failed"):
            video.read([35])


def test_a_change_of_size_within_a_video(tmp_path: Path) -> None:
    small, large = (write(tmp_path / f"{side}.avi", 4, name="mjpeg.avi", size=(side, side)) for side in (32, 64))
    path = tmp_path / "grows.avi"
    with av.open(str(path), "w") as target:
        copy, clock = None, 0
        for part in (small, large):
            with av.open(str(part)) as source:
                copy = copy or target.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.dts is not None:
                        packet.stream, packet.pts, packet.dts, clock = copy, clock, clock, clock + 1
                        target.mux(packet)
    with Video(path) as video, pytest.raises(DataError, match=r"frame 4 has another size.*64x64 and 32x32"):
        video.read(range(8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    for number, image in enumerate(images(6), start=1):
        Image.fromarray(image).save(path / f"img_{number:05d}.jpg")
    return path


def test_folders_that_are_not_a_video(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="contains no image"):
        Video(tmp_path / "bare")
    (folder / "img_00003.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of its frames are missing \(number 3\)"):
        Video(folder)
    for number in (4, 5, 6):
        (folder / f"img_{number:05d}.jpg").unlink()
    shutil.copy(folder / "img_00001.jpg", folder / "img_1.jpg")
    with pytest.raises(DataError, match="two images have the number 1"):
        Video(folder)
    (folder / "img_1.jpg").rename(folder / "flow_x_00001.jpg")
    with pytest.raises(DataError, match=r"several series of images \(flow_x_\*, img_\*\).*prefix"):
        Video(folder)
    (folder / "flow_x_00001.jpg").rename(folder / "poster.jpg")
    with pytest.raises(DataError, match=r"poster.jpg has no number"):
        Video(folder)
    (folder / "poster.jpg").unlink()
    (folder / "img_00002.jpg").unlink()
    with pytest.raises(DataError, match="contains a single image"):
        Video(folder)


def test_frames_that_are_damaged_or_gone(folder: Path) -> None:
    frame = folder / "img_00004.jpg"
    with Video(folder) as video:
        content = frame.read_bytes()
        frame.write_bytes(content[: len(content) // 2])
        with pytest.raises(DataError, match=rf"{frame.name}: the frame cannot be read"):
            video.read([2, 3])
        assert len(video.read([2, 4])) == 2
        frame.unlink()
        with pytest.raises(DataError, match=rf"{frame.name}.*No such file"):
            video.read([3])
        Image.fromarray(images(1, 24, 24)[0]).save(frame)
        with pytest.raises(DataError, match="frame 3 has another size"):
            video.read([2, 3])
        Image.fromarray(np.zeros((48, 64), np.uint16)).save(frame, format="PNG")
        with pytest.raises(DataError, match="more than 8 bits"):
            video.read([3])
        Image.new("L", (1, 1)).save(frame)
        with pytest.raises(DataError, match="1x1 pixels"):
            video.read([3])


def test_a_folder_that_cannot_be_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(_: Path) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "iterdir", vanish)
    with pytest.raises(DataError, match="the folder cannot be read"):
        Video(folder)


def corrupted(content: bytes, seed: int) -> bytes:
    """The file with some bytes changed anywhere, changed near its head, cut out, or put in twice."""
    rng, changed = random.Random(seed), bytearray(content)
    at = rng.randrange(len(changed))
    if seed % 4 == 0:
        for _ in range(rng.randint(1, 20)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    elif seed % 4 == 1:
        for _ in range(8):
            changed[rng.randrange(min(1500, len(changed)))] = rng.randrange(256)
    elif seed % 4 == 2:
        del changed[at : at + rng.randint(1, 400)]
    else:
        changed[at:at] = changed[at : at + rng.randint(1, 400)]
    return bytes(changed)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "name", ["h264.mp4", "h264_open_gop.mkv", "hevc.mp4", "vp9.webm", "mpeg4_b_frames.avi", "palette.gif"]
)
def test_corrupted_bytes_give_frames_or_a_data_error(
    intact: dict[str, Path], tmp_path: Path, name: str, decoder: Decoder
) -> None:
    content, outcomes = intact[name].read_bytes(), {"frames": 0, "refused": 0}
    path = tmp_path / name
    for seed in range(200):
        path.write_bytes(corrupted(content, seed))
        start = time.monotonic()
        try:
            with Video(path, decoder=decoder) as video:
                clip = video.read([0, len(video) // 2, len(video) - 1])
                assert len(clip) == 3
                outcomes["frames"] += 1
        except DataError as refused:
            outcomes["refused"] += str(refused).startswith(str(path))
        assert time.monotonic() - start < 5
    assert min(outcomes.values()) >= 10, outcomes
    assert sum(outcomes.values()) == 200
