"""Predict the action in a video from the file of `muybridge export`, with onnxruntime, numpy and av alone.

python predict_video.py model.onnx video.mp4    # of models that take frames, not flow; one view, the center crop
"""

import json
import sys

import av
import numpy as np
import onnxruntime


def frame_numbers(frames: int, spec: dict) -> list[int]:
    """Which frames make the input: a window in the middle of each segment, or of the video, or frames of all of it."""
    segments, length, stride = spec["segments"], spec["frames_per_segment"], spec["stride"]
    if spec["mode"] == "uniform":
        return [(2 * part + 1) * frames // (2 * segments * length) for part in range(segments * length)]
    segments, length = (1, segments * length) if spec["mode"] == "clips" else (segments, length)
    span = (length - 1) * stride + 1
    places = max(frames - span + 1, 0)
    short = spec["mode"] == "segments" and frames < segments + span
    starts = [0 if short else int(places * (part + 0.5) / segments) for part in range(segments)]
    if spec["mode"] == "dense":
        starts = [(max(0, frames - 64) // 2 + max(1, 64 // segments) * part) % frames for part in range(segments)]
    return [min(start + step * stride, frames - 1) for start in starts for step in range(length)]


def scaled(frame: av.VideoFrame, spec: dict) -> np.ndarray:
    """The frame as H W C bytes, resized as in training."""
    height, width = frame.height, frame.width
    if "resize" in spec:
        height, width = spec["resize"]
    else:
        scale = spec["short_side"] / min(height, width)
        height, width = round(height * scale), round(width * scale)
    layout = "rgb24" if spec["channels"] == 3 else "gray"
    return frame.reformat(width, height, layout, interpolation="BILINEAR").to_ndarray().reshape(height, width, -1)


def read_input(path: str, spec: dict) -> np.ndarray:
    """The center crop of the chosen frames, normalized: 1 T C H W."""
    with av.open(path) as container:
        frames = list(container.decode(video=0))  # short videos; long ones are better decoded twice
    clip = np.stack([scaled(frames[number], spec) for number in frame_numbers(len(frames), spec)])
    size = spec["size"]
    top, left = (clip.shape[1] - size) // 2, (clip.shape[2] - size) // 2
    clip = (clip[:, top : top + size, left : left + size] / 255 - spec["mean"]) / spec["std"]
    return clip.transpose(0, 3, 1, 2)[None].astype(np.float32)


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    labels, spec = json.loads(metadata["labels"]), json.loads(metadata["input"])
    logits = session.run(["logits"], {"video": read_input(sys.argv[2], spec)})[0][0]
    logits = logits / json.loads(metadata.get("calibration", '{"temperature": 1}'))["temperature"]
    scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for best in scores.argsort()[::-1][:5]:
        print(f"{scores[best]:8.4f}  {labels[best]}")
