"""What the benchmarks share: timing of several calls in alternation, and the peak memory of a call."""

import time
from collections.abc import Callable, Mapping

import torch

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
