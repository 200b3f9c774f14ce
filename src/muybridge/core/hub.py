"""The Hugging Face hub as a place: addresses of runs there, and whether it can be reached."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from muybridge.core.errors import RunError

_ADDRESS = re.compile(r"hf:/{1,2}(?P<name>[^/@\s]+/[^/@\s]+)(?:@(?P<revision>\S+))?")


def is_hub_address(run: str | Path) -> bool:
    """Whether a run on the hub is meant, ``hf://user/name``, and not a folder."""
    return Path(run).as_posix().startswith("hf:/")


def parse_hub_address(address: str | Path) -> tuple[str, str | None]:
    """The repository and the revision of ``hf://user/name`` or ``hf://user/name@revision``; RunError for another."""
    text = Path(address).as_posix()  # which has one slash for two, as an argument of the command line
    if match := _ADDRESS.fullmatch(text):
        return match["name"], match["revision"]
    raise RunError(
        "not the address of a run on the hub",
        expected="hf://user/name, or hf://user/name@revision",
        hint="correct the address",
        where=text.replace("hf:/", "hf://", 1),
    )


def hub_url() -> str:
    """The address of the hub; HF_ENDPOINT names another than the public one."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


@contextmanager
def cache_only_where_the_hub_is_unreachable() -> Iterator[None]:
    """One attempt to connect: without a connection the hub's client would repeat its requests for a minute."""
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or not can_connect(hub_url())
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def can_connect(address: str) -> bool:
    """Whether the server of an address, or the proxy to it, accepts a connection within three seconds."""
    server = urlsplit(address)
    proxy = None if proxy_bypass(server.hostname or "") else getproxies().get(server.scheme)
    target = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else server
    port = target.port or {"http": 80, "https": 443}.get(target.scheme, 443)
    try:
        socket.create_connection((target.hostname or "", port), timeout=3).close()
    except OSError:
        return False
    return True
