"""Who may ask: checks of the headers Host and Origin and of the token, before anything else sees a request."""

import base64
import hmac
import ipaddress
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse

from muybridge.core.errors import RequestError
from muybridge.serve.answers import error_answer
from muybridge.serve.config import LOCAL_NAMES, ServeConfig

OPEN = ("/", "/healthz", "/docs", "/openapi.json", "/favicon.ico")
"""Paths that need no token: they say nothing of the models."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TOKEN_PROTOCOL = "token."
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """An ASGI middleware that answers what is not allowed, and sets the headers that keep pages to themselves.

    The header Host must be an address in numbers, ``localhost``, this machine's name, or one of ``config.hosts``: a
    page elsewhere whose name was pointed at this machine is refused. Origin must be the same host. The token comes as
    ``Authorization: Bearer TOKEN``. All of this holds for WebSockets too.

    Args:
        app: what is guarded.
        config: of the server.
    """

    def __init__(self, app: Any, config: ServeConfig) -> None:
        self.app, self.config = app, config
        self._names = {*LOCAL_NAMES, socket.gethostname().lower(), config.host.lower()}
        self._names |= {name.lower() for name in config.hosts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Checks a request and passes it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        problem = self._problem(scope, headers)

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                extra = [
                    (name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in given
                ]
                message = message | {"headers": [*message["headers"], *extra]}
            await send(message)

        if problem is None:
            await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)
        elif scope["type"] == "websocket":
            await _refuse_websocket(problem, send)
        else:
            wanted = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else None
            response = JSONResponse(error_answer(problem).model_dump(), problem.status, headers=wanted)
            await response(scope, receive, send_with_headers)

    def _problem(self, scope: Any, headers: dict[str, str]) -> RequestError | None:
        """Why a request is not allowed; None if it is."""
        host = headers.get("host", "")
        if not self._is_known(host):
            return _forbidden(
                f"the header Host is {host!r}", "the address of this server", "--allow-host NAME allows it"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host.lower():
            return _forbidden(f"a page of {origin!r} asks", "pages of this server alone", "open this server's own page")
        if scope["path"] in OPEN or scope["path"].startswith("/static/"):
            return None
        if self.config.token and not hmac.compare_digest(_token(headers).encode(), self.config.token.encode()):
            return RequestError(
                "the token is missing or wrong",
                expected="the header Authorization: Bearer TOKEN",
                hint="ask whoever runs the server for the token",
                status=401,
            )
        return None

    def _is_known(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "") if "@" not in host else ""
            if name in self._names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # not a name, so that nobody can have pointed it elsewhere


def _token(headers: dict[str, str]) -> str:
    """The token of a request; empty if there is none.

    Pages cannot set a header of a WebSocket; they offer the token as a protocol, in base64 for URLs.
    """
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if (name := protocol.strip()).startswith(TOKEN_PROTOCOL):
            encoded = name.removeprefix(TOKEN_PROTOCOL)
            with suppress(ValueError):
                return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode("ascii")
    return ""


async def _refuse_websocket(problem: RequestError, send: Any) -> None:
    """Answers the request for a WebSocket by a status and the reason."""
    response = JSONResponse(error_answer(problem).model_dump(), problem.status)
    start = {"type": "websocket.http.response.start", "status": problem.status, "headers": response.raw_headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": response.body})


def _forbidden(problem: str, expected: str, hint: str) -> RequestError:
    return RequestError(problem, expected=expected, hint=hint, status=403)
