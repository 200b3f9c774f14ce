"""Which way and how fast a recording is played: the draw, the data set around any other, and that it can be learned."""

import csv
import tomllib
from pathlib import Path

import pytest
import tomli_w
import torch
from pydantic import TypeAdapter, ValidationError

from muybridge.core.errors import RecipeError
from muybridge.core.rng import make_generator
from muybridge.core.types import SkeletonSequence
from muybridge.data.datasets import AnyDataset, MSRAction3D, Playback
from muybridge.data.datasets.playback import PLAYBACKS, SPEEDS
from muybridge.data.decoded import decode_short
from muybridge.data.playback import play
from muybridge.engine.evaluate import evaluate, make_samples
from muybridge.engine.train import train
from muybridge.media.video import Video
from muybridge.recipe import Recipe
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"), takes=1)


def numbered(frames: int) -> SkeletonSequence:
    """A recording whose frames say their number."""
    joints = torch.arange(frames, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 3)
    return SkeletonSequence(joints, torch.ones(frames, 1, dtype=torch.bool))


def with_playback(recipe: Recipe, **settings) -> Recipe:
    data = Playback(source=recipe.data).model_dump(mode="json", exclude_none=True)  # pyright: ignore[reportArgumentType]
    return recipe.with_settings({"data": data} | settings)


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 30])
def test_the_label_says_in_which_steps_the_frames_follow(frames: int):
    seen = set()
    for seed in range(80):
        shown, label = play(numbered(frames), make_generator(seed))
        assert isinstance(shown, SkeletonSequence)
        order = shown.joints[:, 0, 0, 0]
        assert len(shown) == max(1, frames // SPEEDS[-1])  # the same for every speed
        assert 0 <= order.min() <= order.max() < frames
        way, speed = PLAYBACKS[label].split(", ")
        step = int(speed.removesuffix("x")) * (1 if way == "forwards" else -1)
        assert (order.diff() == step).all()
        seen.add(label)
    assert seen == set(range(len(PLAYBACKS)))


def test_a_video_is_played_like_its_decoded_frames(videos: Path):
    with Video(videos / "dawn" / "a_0.mp4") as video:
        decoded = decode_short(video, 32, 2**21)
        assert decoded is not None
        whole = decoded.clip.pixels.float().mean((1, 2, 3))
        for seed in range(12):
            (one, label), (other, same) = (play(recording, make_generator(seed)) for recording in (video, decoded))
            assert label == same
            assert len(one) == len(other) == 4
            clips = [part.read(range(4), 32) for part in (one, other)]
            assert torch.equal(clips[0].pixels, clips[1].pixels)
            torch.testing.assert_close(clips[0].seconds, clips[1].seconds)
            assert (clips[1].seconds.diff() > 0).all()
            brightness = clips[1].pixels.float().mean((1, 2, 3))
            assert (brightness.diff().mean() > 0) == PLAYBACKS[label].startswith("forwards")
            assert set(brightness.tolist()) <= set(whole.tolist())
        with_gap = video.slice_frames(1, 8, step=3)
        assert (len(with_gap), with_gap.duration) == (3, pytest.approx(0.75))


def test_the_data_set_is_its_source_without_labels(recordings: Path):
    source = MSRAction3D(root=recordings, files="567", val_groups=("s03",))
    data = Playback(source=source)
    for split in ("train", "val", "test"):
        records = data.index(split).records
        assert [record.id for record in records] == [record.id for record in source.index(split).records]
        assert {record.label for record in records} == {0}
    record = data.index("train").records[0]
    assert torch.equal(data.open(record).joints, source.open(record).joints)
    assert data.holds() == source.holds()
    assert data.labels() == PLAYBACKS
    assert [data.labels()[label] for label in data.reverse().values()] == [*PLAYBACKS[3:], *PLAYBACKS[:3]]
    text = tomli_w.dumps(data.resolved().model_dump(mode="json", exclude_none=True))
    assert TypeAdapter(AnyDataset).validate_python(tomllib.loads(text)) == data.resolved()


def test_settings_that_belong_to_the_source_are_refused(recordings: Path):
    source = {"name": "msr_action3d", "root": recordings}
    with pytest.raises(ValidationError, match=r"val_groups belong to the source; set data\.source\.val_groups"):
        Playback.model_validate({"source": source, "val_groups": ["s03"]})
    with pytest.raises(ValidationError, match="playback"):
        Playback.model_validate({"source": {"name": "playback", "source": source}})


def test_samples_are_drawn_by_seed_epoch_and_number_and_in_testing_by_id(videos: Path):
    recipe = with_playback(tiny_clip_recipe(videos))
    one, other = (make_samples(recipe, "train", augment=True) for _ in range(2))
    drawn = [one[epoch, index] for epoch in (0, 1, 2) for index in range(len(one))]
    assert len({label for _, label, _ in drawn}) > 3
    again = [other[epoch, index] for epoch in (0, 1, 2) for index in range(len(one))]
    for (inputs, label, name), (same, same_label, same_name) in zip(drawn, again, strict=True):
        assert (label, name) == (same_label, same_name)
        assert torch.equal(inputs["video"], same["video"])
    plain = make_samples(recipe, "test")
    assert [plain[-1, 0][1], plain[-1, 1][1]] == [make_samples(recipe, "test")[-1, index][1] for index in (0, 1)]
    assert one._cache, "short videos stay decoded, as for labels"


def test_a_run_is_tested_on_draws_by_id(videos: Path, tmp_path: Path):
    recipe = with_playback(tiny_clip_recipe(videos, epochs=1), **{"view.clips": 2, "view.reverse": True})
    run = train(recipe, tmp_path / "run")
    evaluate(run)
    with (run.path / "test-predictions.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    records = recipe.data.index("test").records
    drawn = [play(recipe.data.open(record), make_generator("playback", record.id))[1] for record in records]
    assert [row[:2] for row in rows] == [[r.id, PLAYBACKS[label]] for r, label in zip(records, drawn, strict=True)]


def test_stored_flow_and_features_are_refused(videos: Path):
    recipe = tiny_clip_recipe(videos)
    source = {"name": "playback", "source": recipe.data.model_dump(mode="json", exclude_none=True)}
    model = {"name": "video_lstm", "backbone": "test_efficientnet", "frames": 3, "size": 32}
    for stored in ({"flow.folder": "flow"}, {"view.features": "store"}):
        with pytest.raises(RecipeError, match=r"holds recordings as they are, and data set \"playback\" plays them"):
            recipe.with_settings({"data": source, "model": model, "augment": {}} | stored)


def test_skeletons_are_played_too(recordings: Path):
    samples = make_samples(with_playback(tiny_recipe(recordings)), "train", augment=True)
    lengths = {len(samples[epoch, 0][0]["joints"]) for epoch in range(6)}
    assert lengths == {len(samples.data.open(samples.records[0])) // SPEEDS[-1]}
