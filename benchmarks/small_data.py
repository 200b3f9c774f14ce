"""Starting recipes on small data sets, beside the linear model: people apart, random subsets of the benchmarks.

    python benchmarks/small_data.py --part choose --models drnn --subsets 3      # while settings are chosen
    python benchmarks/small_data.py --jobs 2                                     # the table of docs/results.md

A subset is a folder as a user would bring it: n recordings of each class for training, and as a test those of the same
classes by other people. With ``--part choose`` all people are training people of the benchmark, so that its test people
have no influence on settings. With ``--part report`` the training people are those of the benchmark (and, where they
have fewer than n recordings of a class, as many of its test people as it takes, but always one person remains), and all
other test people test. Results are added to a file, and what is in it is not measured again.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from muybridge.core.contracts import SkeletonData
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig
from muybridge.data.datasets.msr_action3d import MSRAction3D
from muybridge.data.datasets.sbu import SBU
from muybridge.data.datasets.utd_mhad import UTDMHAD, UTDMHADDepth
from muybridge.engine.baselines import measure
from muybridge.engine.evaluate import evaluate
from muybridge.engine.metrics import Scores
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.recipe import folder_recipe

DATA: dict[str, DatasetConfig] = {
    "utd_mhad": UTDMHAD(),
    "msr_action3d": MSRAction3D(),
    "sbu": SBU(fold=1),
    "utd_mhad_depth": UTDMHADDepth(),
}
TEST_PEOPLE = {"sbu": {"s01s02", "s03s04", "s05s02", "s06s04", "s02s03", "s02s07", "s03s05", "s05s03"}}
"""SBU has no fixed test people: here the pairs of the first two of its five folds."""


@dataclass(frozen=True)
class Case:
    """One subset of a data set.

    Attributes:
        data: which data set.
        part: "choose" or "report".
        size: training recordings of each class.
        classes: how many classes; 0 for all.
        subset: number of the random draw.
    """

    data: str
    part: str
    size: int
    classes: int
    subset: int

    def draw(self) -> tuple[list[Record], list[Record]]:
        """Training and test recordings."""
        data = DATA[self.data]
        rng = random.Random(f"{self.data} {self.part} {self.size} {self.classes} {self.subset}")
        records = [*data.index("train").records, *data.index("val").records, *data.index("test").records]
        known = TEST_PEOPLE.get(self.data) or {record.group for record in data.index("test").records}
        people = {"train": sorted({one.group for one in records} - known), "test": sorted(known)}
        for group in people.values():
            rng.shuffle(group)
        labels = sorted({record.label for record in records})
        kept = set(rng.sample(labels, self.classes) if self.classes else labels)
        records = [record for record in records if record.label in kept]
        trained, tested = self._people(records, people)
        pool: dict[int, list[Record]] = defaultdict(list)
        for record in sorted(records, key=lambda one: one.id):
            if record.group in trained:
                pool[record.label].append(record)
        train = [one for group in pool.values() for one in rng.sample(group, min(self.size, len(group)))]
        return train, [record for record in records if record.group in tested]

    def _people(self, records: Sequence[Record], people: dict[str, list[str]]) -> tuple[set[str], set[str]]:
        if self.part == "choose":
            test = max(1, len(people["train"]) // 4)
            return set(people["train"][test:]), set(people["train"][:test])
        trained, tested = set(people["train"]), list(people["test"])
        while len(tested) > 1 and self._smallest(records, trained) < self.size:
            trained.add(tested.pop())
        return trained, set(tested)

    def _smallest(self, records: Sequence[Record], people: set[str]) -> int:
        counts: dict[int, int] = defaultdict(int)
        for record in records:
            counts[record.label] += record.group in people
        return min(counts.values())


def write_folder(case: Case, folder: Path) -> None:
    """The subset as folders train/CLASS and test/CLASS; the person is the start of a file name."""
    data, holds = DATA[case.data], DATA[case.data].holds()
    for split, records in zip(("train", "test"), case.draw(), strict=True):
        for record in records:
            name = f"{record.group}_{record.id.replace('/', '_')}"
            target = folder / split / data.labels()[record.label] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(holds, SkeletonData):
                recording = data.open(record)
                assert isinstance(recording, SkeletonSequence)
                np.savez(f"{target}.npz", joints=recording.joints.numpy(), present=recording.present.numpy())
            else:
                target.with_suffix(record.path.suffix).symlink_to(record.path)


def settings_of(case: Case) -> dict[str, Any]:
    """What a user knows of the recordings and says: who they are of, and the joint layout."""
    holds = DATA[case.data].holds()
    given: dict[str, Any] = {"data.group": r"/(\w+?)_", "train.num_workers": 0, "train.precision": "32-true"}
    if isinstance(holds, SkeletonData):
        given["data.layout"] = holds.layout.name
    return given


def run(case: Case, model: str, variant: dict[str, Any], device: str) -> dict[str, Any]:
    """Train a model on a subset, or fit the baselines, and test once."""
    torch.set_num_threads(1)
    started = time.monotonic()
    row: dict[str, Any] = {**vars(case), "model": model, "variant": variant}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "data"
        write_folder(case, root)
        if model == "linear":
            kind = "drnn" if isinstance(DATA[case.data].holds(), SkeletonData) else "tsn"
            table = measure(folder_recipe(kind, root, settings_of(case)).data)
            row |= {"count": table.count, "top1": {one.name: round(one.top1, 2) for one in table.rows}}
        else:
            recipe = folder_recipe(model, root, settings_of(case) | variant)
            runtime = Runtime(recipe.train.precision, device)
            folder = train(recipe, Path(temporary) / "run", runtime=runtime)
            scores = evaluate(folder, "test", runtime)
            assert isinstance(scores, Scores)
            row |= {"count": scores.count, "top1": round(scores.top1, 2)}
    return row | {"seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    """Measure what is missing in the file and print means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--models", default="linear,drnn,sta_lstm,tdn")
    parser.add_argument("--part", choices=("choose", "report"), default="report")
    parser.add_argument("--sizes", default="5,10,20")
    parser.add_argument("--classes", default="5,0")
    parser.add_argument("--subsets", type=int, default=10)
    parser.add_argument("--variants", default="[{}]", help="JSON list of settings by dotted name")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing after that")
    parser.add_argument("--out", type=Path, default=Path("small_data.jsonl"))
    args = parser.parse_args()
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    keys = {_key(row) for row in done}
    work = [
        (Case(data, args.part, int(size), int(classes), subset), model, variant)
        for subset in range(args.subsets)
        for data in args.data.split(",")
        for size in args.sizes.split(",")
        for classes in args.classes.split(",")
        for model in args.models.split(",")
        for variant in ([{}] if model == "linear" else json.loads(args.variants))
        if _fits(data, model)
    ]
    work = [one for one in work if _key({**vars(one[0]), "model": one[1], "variant": one[2]}) not in keys]
    limit = time.monotonic() + 60 * args.minutes
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool, args.out.open("a") as file:
        futures = [pool.submit(_attempt, limit, *one, args.device) for one in work]
        for future in as_completed(futures):
            if (row := future.result()) is not None:
                done.append(row)
                print(json.dumps(row), file=file, flush=True)
    _print(done)


def _attempt(limit: float, case: Case, model: str, variant: dict[str, Any], device: str) -> dict[str, Any] | None:
    return run(case, model, variant, device) if time.monotonic() < limit else None


def _fits(data: str, model: str) -> bool:
    of_skeletons = isinstance(DATA[data].holds(), SkeletonData)
    return model == "linear" or of_skeletons == (model in ("drnn", "sta_lstm"))


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row[name] for name in ("data", "part", "size", "classes", "subset", "model", "variant")])


def _print(rows: Sequence[dict[str, Any]]) -> None:
    cells: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        key = (row["data"], row["classes"] or "all", row["size"])
        named = row["top1"] if row["model"] == "linear" else {f"{row['model']} {row['variant'] or ''}": row["top1"]}
        for name, top1 in named.items():
            cells[*key, name].append((top1, row["seconds"]))
    for key, values in sorted(cells.items(), key=lambda cell: tuple(map(str, cell[0]))):
        top1 = [value for value, _ in values]
        deviation = statistics.stdev(top1) if len(top1) > 1 else 0.0
        seconds = statistics.median(seconds for _, seconds in values)
        print(*key, f"{statistics.mean(top1):.1f} ± {deviation:.1f} ({len(top1)} subsets, {seconds:.0f} s)", sep=" | ")


if __name__ == "__main__":
    main()
