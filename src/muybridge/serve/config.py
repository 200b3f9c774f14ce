"""Settings of the server: where it listens, what it accepts, how requests are gathered."""

import ipaddress
import math
from dataclasses import dataclass, field, fields

from muybridge.core.errors import RecipeError
from muybridge.core.processes import available_cores

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""Addresses that only programs of this machine reach."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may cost; more is refused with the reason.

    Attributes:
        bytes: of the body, counted while it arrives.
        seconds: duration of the recording.
        frames: of the recording.
        pixels: of a frame.
        side: of a frame, height or width in pixels.
        windows: of a timeline.
        memory: bytes that reading a file may take beyond what the worker process has to begin with.
        opening_seconds: until a file is opened and measured.
        idle_seconds: between two parts of the body.
        upload_seconds: for the whole body.
        answer_seconds: from the whole body to the answer, waiting included.
        frame_bytes: of a frame of a stream.
        header_seconds: until the headers of a request are there.
    """

    bytes: int = 512 << 20
    seconds: float = 3 * 3600.0
    frames: int = 400_000
    pixels: int = 4096 * 2304
    side: int = 16384
    windows: int = 50_000
    memory: int = 4 << 30
    opening_seconds: float = 30.0
    idle_seconds: float = 20.0
    upload_seconds: float = 900.0
    answer_seconds: float = 900.0
    frame_bytes: int = 2 << 20
    header_seconds: float = 20.0

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not 0 < value < math.inf:
                raise RecipeError(
                    f"the limit of {limit.name} is {value:g}", expected="more than 0", hint="correct the option"
                )


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """How a server works.

    Attributes:
        host: the address to listen on.
        port: 0 takes a free one.
        token: what clients have to send; empty for none, which only an address of this machine allows.
        hosts: further names under which clients reach the server, such as that of a proxy.
        jobs: processes that read recordings; 0 takes one for each core, at most 4.
        batch: recordings that the model computes together.
        max_delay: seconds that a recording waits at most for others to be computed with; None is 0 where the models
            compute on a CPU, which has little from computing together and stands still meanwhile, and 0.005 otherwise.
        queue: requests that wait at most, beyond one for each process.
        streams: clients that send live frames at most, each with a process of its own.
        limits: of each request.
        alone: whether this process answers all requests, so that its counters are those of the service.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    hosts: tuple[str, ...] = ()
    jobs: int = 0
    batch: int = 8
    max_delay: float | None = None
    queue: int = 32
    streams: int = 4
    limits: Limits = field(default_factory=Limits)
    alone: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536 or self.jobs < 0 or self.batch < 1 or min(self.queue, self.streams) < 0:
            raise RecipeError(
                f"port {self.port}, jobs {self.jobs}, batch {self.batch}, queue {self.queue}, streams {self.streams}",
                expected="a port from 0 to 65535, jobs, queue and streams of 0 or more, batch of 1 or more",
                hint="correct the option",
            )
        if self.max_delay is not None and not 0 <= self.max_delay < 60:
            raise RecipeError(
                f"a largest delay of {self.max_delay:g} s", expected="0 to 60 seconds", hint="correct the option"
            )
        if not self.is_local and not self.token:
            raise RecipeError(
                f"{self.host} can be reached from other machines, and no token is set",
                expected="a token that clients have to send, or the address 127.0.0.1",
                hint="set one with --token or the variable MUYBRIDGE_TOKEN",
            )
        if not self.token.isascii() or any(character.isspace() for character in self.token):
            raise RecipeError(
                "the token has spaces or characters beyond ASCII",
                expected="letters, digits and signs, as they fit into a header",
                hint="choose another token",
            )

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine reach the address."""
        try:
            return self.host in LOCAL_NAMES or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def workers(self) -> int:
        """How many processes read recordings."""
        return self.jobs or min(4, available_cores())
