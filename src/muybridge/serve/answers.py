"""What the server answers, as types: they check the answers and describe them in the OpenAPI document."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from muybridge.core.errors import DataError, MuybridgeError, RecipeError, RequestError
from muybridge.core.skeletons import Layout
from muybridge.core.types import Prediction
from muybridge.serve.worker import Facts
from muybridge.timeline import Timeline
from muybridge.timeline.formats import as_rows


class Answer(BaseModel):
    """Any answer."""

    model_config = ConfigDict(frozen=True)


class Recording(Answer):
    """What was read.

    Attributes:
        kind: what the file holds.
        frames: how many.
        seconds: duration; of skeletons, which have no clock, by the frame rate of the request.
        width, height: of frames in pixels; 0 for skeletons.
        people, joints: of skeletons; 0 for videos.
    """

    kind: Literal["video", "skeletons"]
    frames: int
    seconds: float
    width: int
    height: int
    people: int
    joints: int

    @classmethod
    def of(cls, facts: Facts) -> "Recording":
        """From what a worker found."""
        return cls(
            kind=facts.kind,
            frames=facts.frames,
            seconds=round(facts.seconds, 3),
            width=facts.width,
            height=facts.height,
            people=facts.people,
            joints=facts.joints,
        )


class Score(Answer):
    """A class and its probability."""

    label: str
    score: float


class PredictAnswer(Answer):
    """The action in a recording.

    Attributes:
        model: its name.
        path: the name of the file as the client gave it.
        label: the most probable class, or "none of these".
        score: its probability.
        rejected: whether it is below the threshold; null where there is none.
        top: the most probable classes, best first.
        recording: what was read.
        warnings: in what the recording is unlike those of training.
    """

    model: str
    path: str
    label: str
    score: float
    rejected: bool | None
    top: list[Score]
    recording: Recording
    warnings: list[str]

    @classmethod
    def of(cls, model: str, prediction: Prediction, facts: Facts) -> "PredictAnswer":
        """From a prediction."""
        top = [
            Score(label=label, score=round(score, 6))
            for label, score in zip(prediction.labels, prediction.scores, strict=True)
        ]
        return cls(
            model=model,
            path=prediction.id,
            label=prediction.label,
            score=top[0].score,
            rejected=prediction.rejected,
            top=top,
            recording=Recording.of(facts),
            warnings=list(facts.warnings),
        )


class SegmentAnswer(Answer):
    """An action: from ``start`` to ``end`` in seconds, with its mean probability."""

    start: float
    end: float
    label: str
    score: float


class TimelineAnswer(Answer):
    """When actions happen in a recording.

    Attributes:
        model: its name.
        path: the name of the file as the client gave it.
        labels: class names.
        segments: in order of time.
        edges: of the bins of time in seconds; one more than there are bins.
        probabilities: of each class in each bin.
        window, hop: in seconds.
        recording: what was read.
    """

    model: str
    path: str
    labels: list[str]
    segments: list[SegmentAnswer]
    edges: list[float]
    probabilities: list[list[float]]
    window: float
    hop: float
    recording: Recording

    @classmethod
    def of(cls, model: str, timeline: Timeline, facts: Facts) -> "TimelineAnswer":
        """From a timeline."""
        return cls(
            model=model,
            path=timeline.path,
            labels=list(timeline.labels),
            segments=[SegmentAnswer.model_validate(row) for row in as_rows(timeline)],
            edges=[round(edge, 3) for edge in timeline.edges.tolist()],
            probabilities=[[round(value, 4) for value in row] for row in timeline.probabilities.tolist()],
            window=timeline.window,
            hop=timeline.hop,
            recording=Recording.of(facts),
        )


class JointsAnswer(Answer):
    """The joints of a recording of skeletons, to be drawn.

    Attributes:
        fps: frames a second.
        joints: of each frame, each person and each joint the coordinates; null where a person is absent.
    """

    fps: float
    joints: list[list[list[list[float] | None]]]


class MapsAnswer(Answer):
    """What a model attends to in a video.

    Attributes:
        model: its name.
        kind: whether it is the model's attention, or the activation of the predicted class.
        seconds: of each map.
        rows, columns: cells of a map, which cover the whole frame.
        maps: in base64, a byte for each cell, row after row, map after map; 255 is the highest in a window of time.
        boxes: around the peak of each map, as shares of width and height: left, top, right, bottom. None of a model
            without attention.
    """

    model: str
    kind: Literal["attention", "class_activation"]
    seconds: list[float]
    rows: int
    columns: int
    maps: str
    boxes: list[tuple[float, float, float, float]]


class SkeletonLayout(Answer):
    """The joints that a model of skeletons takes, and the pairs of them that are bones."""

    name: str
    joints: list[str]
    bones: list[tuple[int, int]]

    @classmethod
    def of(cls, layout: Layout) -> "SkeletonLayout":
        """From a layout."""
        return cls(name=layout.name, joints=list(layout.joints), bones=list(layout.bones))


class ModelAnswer(Answer):
    """A run that the server has.

    Attributes:
        name: by which requests choose it.
        system: the kind of its network.
        takes: what recordings hold.
        labels: class names.
        suffixes: endings of the files that it reads.
        layout: of skeletons.
        window: seconds of a window of its timelines, unless the request says otherwise.
        calibrated: whether its probabilities are.
        reject: the probability below which it answers "none of these"; null where there is none.
    """

    name: str
    system: str
    takes: Literal["video", "skeletons"]
    labels: list[str]
    suffixes: list[str]
    layout: SkeletonLayout | None
    window: float
    calibrated: bool
    reject: float | None


class ModelsAnswer(Answer):
    """The runs of the server, the first of which is the default, and the limits of a request."""

    models: list[ModelAnswer]
    limits: dict[str, float]


class HealthAnswer(Answer):
    """Whether the server works: how many workers run, and how many requests it has."""

    status: Literal["ok", "starting"]
    workers: int
    requests: int


class Problem(Answer):
    """Why a request is not answered, in three parts."""

    problem: str
    expected: str
    hint: str
    file: str | None = Field(default=None, description="The name of the file as the client gave it.")


class ErrorAnswer(Answer):
    """The body of every answer with a status of 400 or more."""

    error: Problem


def as_request_error(error: MuybridgeError, path: str = "", name: str = "") -> RequestError:
    """Any error as one with a status, without the path of the temporary file, of which clients know nothing.

    Args:
        error: of any kind.
        path: of the temporary file.
        name: what the client calls it.
    """

    def cleaned(text: str) -> str:
        return text.replace(path, name) if path else text

    is_request = isinstance(error, RequestError)
    return RequestError(
        cleaned(error.problem),
        expected=cleaned(error.expected),
        hint=cleaned(error.hint),
        where=cleaned(str(error.where)) if error.where is not None else name or None,
        status=error.status if is_request else 422 if isinstance(error, DataError | RecipeError) else 500,
        retry_after=error.retry_after if is_request else 0,
    )


def error_answer(error: RequestError) -> ErrorAnswer:
    """The body of the answer for an error."""
    file = None if error.where is None else str(error.where)
    return ErrorAnswer(error=Problem(problem=error.problem, expected=error.expected, hint=error.hint, file=file))
