"""Work that trainings share is done by one of them, while the others wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muybridge.engine.checkpoint import write_errors
from muybridge.engine.journal import Reporter


@contextmanager
def one_at_a_time(folder: Path, report: Reporter, action: str) -> Iterator[None]:
    """Wait while another training makes the same folder, as repetitions in parallel would.

    Args:
        folder: what is made; the lock is a file beside it.
        report: says who is waited for.
        action: what the other training does, such as "trains the same warm-up".
    """
    with write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = folder.with_suffix(".lock").open("w")
    with file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report.say(f"waiting for another training, which {action} ({folder})")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a network file system without locks
            pass
        yield
