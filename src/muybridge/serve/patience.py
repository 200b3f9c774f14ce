"""A time for the headers of a request: who sends them drop by drop must not hold a connection for ever."""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from muybridge.core.errors import RequestError
from muybridge.serve.answers import error_answer


class PatientProtocol(H11Protocol):
    """uvicorn's protocol, which ends a connection whose headers are late, or that goes on sending after its answer.

    The time runs from the beginning of the connection, and later from the first byte of each further request. Its end
    is answered by 408 with the reason. The time of bodies is a matter of what receives them; what still arrives of a
    body that is answered already, such as one that is too large, is read and dropped for as long, since many clients
    read an answer only when they have sent everything.
    """

    header_seconds = 20.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Starts the time."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Starts the time where headers or an answered body are awaited, and stops it elsewhere."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE and not self._is_answered():
            self._stop()
        elif self._timer is None:
            self._start()

    def _is_answered(self) -> bool:
        """Whether the body of a request still arrives whose answer is complete."""
        answered = self.cycle is not None and self.cycle.response_complete
        return answered and self.conn.their_state is h11.SEND_BODY

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the time."""
        self._stop()
        super().connection_lost(exc)

    def _start(self) -> None:
        self._timer = self.loop.call_later(self.header_seconds, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        if self._is_answered():
            self.transport.abort()
            return
        problem = RequestError(
            "the headers stopped, or arrive too slowly",
            expected=f"all headers within {self.header_seconds:g} s",
            hint="send the request again",
            status=408,
        )
        body = json.dumps(error_answer(problem).model_dump()).encode()
        head = f"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()


def patient_protocol(seconds: float) -> type[Any]:
    """A protocol for uvicorn that waits so many seconds for the headers of a request."""
    return type("PatientProtocol", (PatientProtocol,), {"header_seconds": seconds})
