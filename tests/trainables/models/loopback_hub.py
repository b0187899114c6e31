"""A small hub on this machine's loopback address: what a client of Hugging Face's protocol asks of one, over real HTTP.

As on the real one, `/OWNER/NAME/resolve/REVISION/FILE` names the commit, the size and the SHA-256 of a large file in
its headers and redirects to where the content lies, here a second server, of which a Range can be asked.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the hub has, how it misbehaves, and what it was asked.

    Args:
        files: Content by `OWNER/NAME/FILE`.
        corrupt: Give other bytes than the checksum names.
        share: Part of a file that is given, as if it were all of it.
        break_once: Close the connection in the middle of the next content.
        gated: Answer as for a licence that was not accepted.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    corrupt: bool = False
    share: float = 1.0
    break_once: bool = False
    gated: bool = False
    asked: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    endpoint: str = ""
    content_endpoint: str = ""

    @property
    def contents_sent(self) -> int:
        """How often content was asked for."""
        return sum(each.startswith("GET /content/") for each in self.asked)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, *, with_content: bool) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        self.hub.agents.add(self.headers.get("User-Agent", ""))
        name = self.path.lstrip("/")
        if name.startswith("content/"):
            self._send_content(self.hub.files[name.removeprefix("content/")], with_content=with_content)
            return
        owner, repository, _, _, file = name.split("/", 4)
        whole = f"{owner}/{repository}/{file}"
        if self.hub.gated or whole not in self.hub.files:
            known = any(each.startswith(f"{owner}/{repository}/") for each in self.hub.files)
            fault = "GatedRepo" if self.hub.gated else "EntryNotFound" if known else "RepoNotFound"
            self._send(403 if self.hub.gated else 404, {"X-Error-Code": fault, "X-Repo-Commit": COMMIT})
            return
        content = self.hub.files[whole]
        self._send(
            302,
            {
                "Location": f"{self.hub.content_endpoint}/content/{whole}",
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
                "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            },
        )

    def _send_content(self, content: bytes, *, with_content: bool) -> None:
        if self.hub.corrupt:
            content = content[:-4] + b"\0\0\0\1"
        content = content[: int(len(content) * self.hub.share)]
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        part = content[first:]
        headers = {
            "Content-Length": str(len(part)),
            "Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}",
        }
        self._send(206 if first else 200, headers)
        if not with_content:
            return
        if self.hub.break_once:
            self.hub.break_once = False
            part = part[: len(part) // 2]
        self.wfile.write(part)

    def _send(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    """A hub that answers while the context is open."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.endpoint, hub.content_endpoint = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str, cache: Path) -> None:
    """Point this process' client to the hub and to an empty cache; it reads the variables once, when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
