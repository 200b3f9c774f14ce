"""The moving shapes: one frame has no information, only the order of frames; boxes are correct, files complete."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from muybridge.core.errors import DataError
from muybridge.data.datasets.moving_shapes import MovingShapes
from muybridge.media.synthetic.backgrounds import Background, Sprite
from muybridge.media.synthetic.moving_shapes import (
    MIRRORED,
    MOTIONS,
    REVERSED,
    Scene,
    SceneConfig,
    Track,
    actor_track,
    make_scene,
    render_video,
)
from muybridge.media.synthetic.videos import boxes_path, write_videos

CONFIG = SceneConfig()
TINY = SceneConfig(height=32, width=32, frames=8)


def chance(count: int) -> float:
    """What guessing among the classes stays below in 999 of 1000 tests of ``count`` clips."""
    return float(stats.binom.ppf(0.999, count, 1 / len(MOTIONS))) / count


def states(track: Track) -> np.ndarray:
    """Center, size and direction of the actor, T 5."""
    return np.stack([track.x, track.y, np.log(track.radius), np.cos(track.angle), np.sin(track.angle)], axis=1)


@pytest.fixture(scope="module")
def tracks() -> np.ndarray:
    """States of one take in 400 scenes, class scene T 5."""
    return np.stack([[states(actor_track(CONFIG, motion, scene, 1)) for scene in range(400)] for motion in MOTIONS])


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> MovingShapes:
    config = MovingShapes(
        root=tmp_path_factory.mktemp("shapes"), scenes=4, test_scenes=2, height=48, width=64, frames=8
    )
    config.generate()
    return config


@pytest.mark.parametrize("frame", [None, 0, 15, 31])
def test_the_true_state_in_one_frame_contains_no_class_information(tracks, frame):
    classes, scenes, frames, _ = tracks.shape
    at = np.random.default_rng(0).integers(frames, size=(classes, scenes)) if frame is None else frame
    states_at_frame = tracks[np.arange(classes)[:, None], np.arange(scenes), at]
    labels = np.repeat(np.arange(classes), 200)
    forest = RandomForestClassifier(60, min_samples_leaf=10, random_state=0)
    forest.fit(states_at_frame[:, :200].reshape(-1, 5), labels)
    assert forest.score(states_at_frame[:, 200:].reshape(-1, 5), labels) < chance(len(labels))


def test_the_true_states_in_two_frames_identify_most_classes(tracks):
    # Shows that the forest above could see a leak if there were one.
    two = np.concatenate([tracks[:, :, 10], tracks[:, :, 11] - tracks[:, :, 10]], axis=-1)
    labels = np.repeat(np.arange(len(tracks)), 200)
    forest = RandomForestClassifier(60, min_samples_leaf=10, random_state=0).fit(two[:, :200].reshape(-1, 10), labels)
    assert forest.score(two[:, 200:].reshape(-1, 10), labels) > 0.75


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("frame", [0, 13, 31])
def test_at_every_frame_the_actor_is_distributed_as_documented(tracks, motion, frame):
    x, y, size, cos, sin = tracks[MOTIONS.index(motion), :, frame].T
    x, y = ((position - 56) / (0.27 * 112) for position in (x, y))
    shares = {
        "distance from the middle": x**2 + y**2,  # the area within it
        "bearing": np.arctan2(y, x) / (2 * np.pi) + 0.5,
        "size": (size - np.log(0.12 * 112)) / np.log(0.25 / 0.12),
        "angle": np.arctan2(sin, cos) / (2 * np.pi) + 0.5,
    }
    for name, share in shares.items():
        assert stats.kstest(share, "uniform").pvalue > 1e-4, name
    together = np.corrcoef(list(shares.values())) - np.eye(4)
    assert np.abs(together).max() < 4 / np.sqrt(len(x))


def test_the_actor_can_be_small_and_anywhere(tmp_path):
    config = SceneConfig(actor=(0.08, 0.12), spread=0.36)
    ends = [states(actor_track(config, motion, scene, 1))[13] for motion in MOTIONS for scene in range(100)]
    x, y, size, *_ = np.transpose(ends)
    area = ((x - 56) ** 2 + (y - 56) ** 2) / (0.36 * 112) ** 2
    share = (size - np.log(0.08 * 112)) / np.log(0.12 / 0.08)
    assert stats.kstest(area, "uniform").pvalue > 1e-4
    assert stats.kstest(share, "uniform").pvalue > 1e-4
    predicted = [class_from_order(actor_track(config, "shake", scene, 1)) for scene in range(100)]
    assert predicted.count("shake") >= 98
    plain, other = MovingShapes(root=tmp_path), MovingShapes(root=tmp_path, radius=(0.08, 0.12), spread=0.36)
    assert other.scene_config() == SceneConfig(distractors=1, actor=(0.08, 0.12), spread=0.36)
    assert plain.folder() != other.folder()
    assert plain.folder().name == "v1-seed0-112x112x32-distractors1-perturbation1"
    with pytest.raises(ValueError, match=r"radius needs the smaller number first and at most 0.5, and is \[0.3, 0.2\]"):
        MovingShapes(radius=(0.3, 0.2))


@pytest.mark.slow
def test_pixels_of_one_frame_tell_nothing():
    scenes = [make_scene(TINY, number) for number in range(60)]
    videos = np.stack(
        [[render_video(TINY, scene, motion, 1).pixels[:, ::2, ::2] for motion in MOTIONS] for scene in scenes]
    )
    train, test = videos[:40].reshape(-1, 16 * 16 * 3) / 255, videos[40:].reshape(-1, 16 * 16 * 3) / 255
    labels = np.tile(np.repeat(np.arange(len(MOTIONS)), TINY.frames), len(scenes))
    linear = make_pipeline(PCA(60, random_state=0), StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    for model in (linear, RandomForestClassifier(40, min_samples_leaf=5, random_state=0)):
        score = model.fit(train, labels[: len(train)]).score(test, labels[len(train) :])
        assert score < chance(20 * len(MOTIONS))


def class_from_order(track: Track) -> str:
    """The class by its definition, from the speeds of a track."""
    vx, vy, growth, turn = (np.diff(values) for values in (track.x, track.y, track.radius, track.angle))
    if np.abs(turn).max() > 0.01:
        return "turn clockwise" if turn[0] > 0 else "turn counter-clockwise"
    if np.abs(growth).max() > 0.01:
        return "approach" if np.median(growth) > 0 else "recede"
    bend = vx[:-1] * vy[1:] - vy[:-1] * vx[1:]  # positive to the right of the way ahead, as y points down
    if (np.sign(bend) == np.sign(bend[0])).all() and np.abs(bend).min() > 1e-6:
        return "circle clockwise" if bend[0] > 0 else "circle counter-clockwise"
    for speed, beside, ways in ((vx, vy, ("move left", "move right")), (vy, vx, ("move up", "move down"))):
        steady = np.abs(speed - np.median(speed)) < 1e-6
        if np.abs(beside).max() < 1e-6 and steady.mean() > 0.6:
            return ways[int(np.median(speed) > 0)]
    return "bounce" if np.abs(vx).max() < 1e-6 else "shake"


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_order_of_frames_determines_the_class(motion):
    predicted = [class_from_order(actor_track(CONFIG, motion, scene, 1)) for scene in range(200)]
    assert predicted.count(motion) >= 0.98 * len(predicted)


@pytest.mark.parametrize("pair", MIRRORED, ids="/".join)
def test_mirroring_gives_the_partner_class(pair):
    for motion, partner in (pair, pair[::-1]):
        track = actor_track(CONFIG, motion, 3, 1)
        assert class_from_order(Track(112 - track.x, track.y, track.radius, -track.angle)) == partner
        assert MovingShapes().mirror()[MOTIONS.index(motion)] == MOTIONS.index(partner)
    for motion in set(MOTIONS) - {name for names in MIRRORED for name in names}:
        track = actor_track(CONFIG, motion, 3, 1)
        assert class_from_order(Track(112 - track.x, track.y, track.radius, -track.angle)) == motion


def test_partners_decode_to_the_same_frames_in_opposite_order(small):
    # A model without temporal order cannot separate them; this holds of the files, traces of the coder included.
    records = {record.id: record for split in ("train", "test") for record in small.index(split).records}
    for motion, partner in REVERSED.items():
        for name in ("s001_t01", "s004_t01"):
            forwards, backwards = (records[f"{word.replace(' ', '_')}/{name}"] for word in (motion, partner))
            pixels = [small.open(record).read(range(8)).pixels for record in (forwards, backwards)]
            assert torch.equal(pixels[0], pixels[1].flip(0))
            assert not torch.equal(*pixels)
            assert torch.equal(small.boxes(forwards), small.boxes(backwards).flip(0))


def square(half: float) -> Sprite:
    """A white square of this half side without outline or shadow, on tables that reach 1.35 radii."""
    axis = (np.arange(192, dtype=np.float32) + 0.5) / 96 * 1.35 - 1.35
    x, y = np.meshgrid(axis, axis)
    distance = np.maximum(np.abs(x), np.abs(y)) - np.float32(half)
    return Sprite(np.ones((192, 192, 3), np.float32), distance, np.zeros((192, 192), np.float32))


def test_a_shape_is_drawn_where_it_is_placed_and_rotated_clockwise():
    sprite = square(0.5)
    sprite.color[:, :96] = 0.25  # its left half is dark
    frame = np.zeros((40, 60, 3), np.float32)
    seen = sprite.draw(frame, 20.0, 12.0, 16.0, np.pi / 2)
    rows, columns = np.nonzero(seen)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 19, 12, 27)
    assert frame[5:11, 13:27].max() == pytest.approx(0.25)  # left has gone up
    assert frame[13:19, 13:27].min() == pytest.approx(1.0)
    assert not square(0.5).draw(frame, -30.0, 12.0, 16.0, 0.0).any()


@pytest.mark.parametrize("motion", MOTIONS)
def test_boxes_are_where_the_actor_is_visible(motion):
    black = Background(np.zeros((8, 8, 3), np.float32))
    jittery, calm = (SceneConfig(height=60, width=80, frames=12, disturbance=strength) for strength in (1.0, 0.0))
    video = render_video(jittery, Scene(5, black, square(0.7), ()), motion, take=2)
    for image, box in zip(video.pixels, video.boxes, strict=True):
        rows, columns = np.nonzero(image.max(axis=-1) > 60)
        seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert np.abs(box - seen).max() <= 1
        assert (box[:2] >= 0).all()
        assert (box[2:] <= (80, 60)).all()
    still = render_video(calm, Scene(5, black, square(0.7), ()), motion, take=2)
    assert 1 <= np.abs(video.boxes - still.boxes).max() < 4  # the camera takes the boxes along


def test_scenes_differ_and_disturbances_can_be_turned_off():
    config = SceneConfig(height=48, width=48, frames=8, disturbance=0.0, distractors=0)
    scene = make_scene(config, 1)
    pixels = render_video(config, scene, "turn clockwise", 1).pixels.astype(int)
    assert (np.ptp(pixels, axis=0).max(axis=-1) == 0).mean() > 0.4  # the background stands still in constant light
    lively = render_video(SceneConfig(height=48, width=48, frames=8), scene, "turn clockwise", 1).pixels.astype(int)
    assert (np.ptp(lively, axis=0).max(axis=-1) == 0).mean() < 0.01
    assert not np.allclose(scene.background.cells, make_scene(config, 2).background.cells, atol=0.1)
    assert len(make_scene(SceneConfig(distractors=3), 1).distractors) == 3


def test_splits_share_no_scene_and_every_scene_has_every_class(small):
    config = small.model_copy(update={"val_groups": ("s002",)})
    groups = {split: {record.group for record in config.index(split).records} for split in ("train", "val", "test")}
    assert groups == {"train": {"s001"}, "val": {"s002"}, "test": {"s003", "s004"}}
    for split in groups:
        labels = [record.label for record in config.index(split).records]
        assert np.bincount(labels).tolist() == [len(groups[split])] * len(MOTIONS)


def test_a_video_opens_as_a_video_at_sixteen_frames_a_second(small):
    record = small.index("test").records[0]
    with small.open(record) as video:
        assert (len(video), video.size, video.fps) == (8, (48, 64), 16.0)
        decoded = video.read(range(8)).pixels.permute(0, 2, 3, 1).float()
    scene = make_scene(small.scene_config(), int(record.group[1:]))
    rendered = render_video(small.scene_config(), scene, MOTIONS[record.label], take=1)
    assert (decoded - torch.from_numpy(rendered.pixels.copy()).float()).abs().mean() < 6  # half the color resolution
    boxes = small.boxes(record)
    assert boxes.shape == (8, 4)
    assert np.array_equal(boxes.numpy(), rendered.boxes)


def test_the_same_arguments_give_the_same_bytes_and_another_seed_other_videos(small, tmp_path):
    copy = small.model_copy(update={"root": tmp_path, "scenes": 1})
    copy.generate()
    videos = sorted(copy.folder().rglob("*.mp4"))
    assert len(videos) == len(MOTIONS)
    for path in videos:
        first = small.folder() / path.relative_to(copy.folder())
        assert path.read_bytes() == first.read_bytes()
        assert boxes_path(path).read_bytes() == boxes_path(first).read_bytes()
    other = write_videos(tmp_path / "other", SceneConfig(height=48, width=64, frames=8, seed=1), scenes=1, takes=1)
    assert all(first.read_bytes() != path.read_bytes() for first, path in zip(other, videos, strict=True))


def test_a_run_that_was_stopped_goes_on(tmp_path):
    def stop(done, scenes):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_videos(tmp_path, TINY, scenes=2, takes=2, progress=stop)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    assert len(written) == 2 * len(MOTIONS)
    lost = sorted(written)[3]
    content = lost.read_bytes()
    lost.unlink()
    reported = []
    videos = write_videos(tmp_path, TINY, scenes=2, takes=2, progress=lambda *count: reported.append(count))
    assert reported == [(1, 2), (2, 2)]
    assert sorted(videos) == sorted(tmp_path.rglob("*.mp4"))
    assert all(boxes_path(path).exists() for path in videos)
    assert lost.read_bytes() == content
    assert all(path.stat().st_mtime_ns == modified for path, modified in written.items() if path != lost)
    assert write_videos(tmp_path, TINY, scenes=2, takes=2, progress=stop) == videos  # complete: nothing left to do


def test_several_processes_write_the_same_bytes(tmp_path):
    reported = []
    config = SceneConfig(height=48, width=64, frames=8)
    videos = write_videos(
        tmp_path, config, scenes=2, takes=1, progress=lambda *count: reported.append(count), workers=2
    )
    assert reported == [(1, 2), (2, 2)]
    alone = write_videos(tmp_path / "alone", config, scenes=2, takes=1)
    assert [path.read_bytes() for path in videos] == [path.read_bytes() for path in alone]


def test_what_a_power_failure_left_empty_is_written_again(tmp_path):
    path = write_videos(tmp_path, TINY, scenes=1, takes=1)[0]
    content = path.read_bytes()
    path.write_bytes(b"")
    write_videos(tmp_path, TINY, scenes=1, takes=1)
    assert path.read_bytes() == content


def test_a_video_never_exists_without_its_boxes(tmp_path, monkeypatch):
    def fail(pixels):
        raise MemoryError

    monkeypatch.setattr("muybridge.media.synthetic.videos.encode", fail)
    with pytest.raises(MemoryError):
        write_videos(tmp_path, TINY, scenes=1, takes=1)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".npz"]


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"the moving shapes cannot be written .*choose another folder"):
        write_videos(tmp_path / "file", TINY, scenes=1, takes=1)


def test_the_default_folder_is_the_users_cache_and_each_kind_has_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert MovingShapes().folder().is_relative_to(tmp_path / "muybridge")
    changes = ({}, {"seed": 1}, {"width": 128}, {"frames": 16}, {"distractors": 0}, {"perturbation": 0.5})
    assert len({MovingShapes.model_validate(change).folder() for change in changes}) == len(changes)


def test_something_has_to_train():
    with pytest.raises(ValueError, match="leaves none for training"):
        MovingShapes(scenes=3, test_scenes=3)
