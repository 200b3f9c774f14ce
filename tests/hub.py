"""A stand-in for the Hugging Face hub: as much of its HTTP interface as the hub's own client uses for small models."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_standin"


@dataclass
class Repository:
    """A model: its files after each commit."""

    private: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{}])
    messages: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        """Those of the newest commit."""
        return self.commits[-1]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a branch or a number of a commit, and its files."""
        numbers = {_sha(number): number for number in range(len(self.commits))}
        number = len(self.commits) - 1 if revision == "main" else numbers.get(revision)
        return None if number is None else (_sha(number), self.commits[number])


@dataclass
class Hub:
    """The stand-in: where it listens, what it has, and which paths were asked for."""

    address: str
    models: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


def _sha(number: int) -> str:
    return hashlib.sha1(f"commit {number}".encode()).hexdigest()


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that runs until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_port}")  # pyright: ignore
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.hub  # pyright: ignore
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    @property
    def hub(self) -> Hub:
        return self.server.hub  # pyright: ignore

    def do_GET(self) -> None:
        self._read(head=False)

    def do_HEAD(self) -> None:
        self._read(head=True)

    def do_POST(self) -> None:
        path = self._note()
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._json(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            exists = name in self.hub.models
            self.hub.models.setdefault(name, Repository(wanted.get("visibility") == "private"))
            self._json(409 if exists else 200, {"url": f"{self.hub.address}/{name}", "name": name, "id": name})
        elif path == "/api/validate-yaml":
            self._json(200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            self._json(200, {"files": files})
        elif "/commit/" in path:
            name = "/".join(path.split("/")[3:5])
            model = self.hub.models[name]
            files = dict(model.files)
            for line in map(json.loads, body.splitlines()):
                match line["key"], line["value"]:
                    case "header", header:
                        model.messages.append(header["summary"])
                    case "file", one:
                        files[one["path"]] = base64.b64decode(one["content"])
                    case "deletedFile", one:
                        files.pop(one["path"])
            model.commits.append(files)
            sha = _sha(len(model.commits) - 1)
            self._json(200, {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.address}/{name}/commit/{sha}"})
        else:
            self._json(404, {"error": path})

    def _note(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(path)
        return path

    def _read(self, *, head: bool) -> None:
        path = self._note()
        is_api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models").strip("/").split("/")
        name = "/".join(parts[:2])
        model = self.hub.models.get(name)
        allowed = model and (not model.private or self.headers.get("authorization") == f"Bearer {TOKEN}")
        if model is None or not allowed:
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            self._json(401, {"error": "Repository not found"}, headers, head=head)
            return
        revision = parts[3] if len(parts) > 3 else "main"
        if (found := model.at(revision)) is None:
            self._json(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"}, head=head)
            return
        sha, files = found
        if is_api and len(parts) > 2 and parts[2] == "tree":
            rows = [
                {"type": "file", "path": one, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for one, data in files.items()
            ]
            self._json(200, rows)
        elif is_api:
            self._json(200, {"id": name, "sha": sha, "siblings": [{"rfilename": one} for one in files], "tags": []})
        elif (file := "/".join(parts[4:])) in files:
            headers = {"ETag": f'"{hashlib.sha1(files[file]).hexdigest()}"', "X-Repo-Commit": sha}
            self._send(200, files[file], "application/octet-stream", headers, head=head)
        else:
            self._json(404, {"error": "no entry"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}, head=head)

    def _json(self, status: int, content: object, headers: dict[str, str] | None = None, *, head: bool = False) -> None:
        self._send(status, json.dumps(content).encode(), "application/json", headers or {}, head=head)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str], *, head: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(body)
