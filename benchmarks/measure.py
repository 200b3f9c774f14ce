"""What the benchmarks share: calls timed in turns, and the memory of a call."""

import time
from collections.abc import Callable, Mapping

import torch

Call = Callable[[], object]


def in_turns(calls: Mapping[str, Call], repeats: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Milliseconds of each call in each of ``repeats`` rounds, after some that do not count.

    The calls take turns, so that a machine that slows down slows all of them alike.
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
    """The most memory that tensors take during a call beyond what they take before it, in MiB."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    assert profile.profiler is not None
    results = profile.profiler.kineto_results
    assert results is not None
    now = peak = 0
    for event in sorted(results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            peak = max(peak, now)
    return peak / 2**20
