"""What the benchmarks share: timing of calls in alternation, the peak memory of a call, the machine, untrained runs."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from muybridge.engine.checkpoint import RunFolder
from muybridge.recipe import Recipe

Call = Callable[[], object]


def time_alternating(calls: Mapping[str, Call], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Milliseconds of each call in each of ``repeats`` rounds, after ``warm_up`` rounds that do not count.

    Each round runs every call once, so that other load on the machine affects all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warm_up + repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= warm_up:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def peak_megabytes(call: Call) -> float:
    """Peak memory of tensors allocated during a call, minus what is allocated before, in MiB."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    assert profile.profiler is not None
    results = profile.profiler.kineto_results
    assert results is not None
    allocated = peak = 0
    for event in sorted(results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            allocated += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            peak = max(peak, allocated)
    return peak / 2**20


def machine() -> str:
    """The processor, its threads that are used, and how busy it is already; with the GPU, if there is one."""
    cpuinfo, name = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    load = f", load {os.getloadavg()[0]:.1f} before the start" if hasattr(os, "getloadavg") else ""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of PyTorch{load}{gpu}"


def untrained_run(
    folder: Path,
    model: Mapping[str, Any],
    data: Mapping[str, Any] | None = None,
    view: Mapping[str, Any] | None = None,
) -> Path:
    """A run folder whose network has random weights, which take as long as trained ones.

    Args:
        folder: of the run; made here.
        model: the settings of the model.
        data: the settings of the data set; by default a list of videos of ten classes.
        view: the settings of the view; by default those of the model.
    """
    torch.manual_seed(0)
    data = data or {"name": "video_list", "root": ".", "classes": [f"class {number}" for number in range(10)]}
    parts = {"model": model, "data": data, "train": {}} | ({"view": view} if view else {})
    recipe = Recipe.model_validate({"title": "untrained"} | parts).resolved()
    labels = recipe.data.labels()
    run = RunFolder.create(folder, recipe, labels, {}, {})
    run.write_weights("weights", recipe.model.build(len(labels), recipe.data.holds()))
    run.clear_state()
    return folder
