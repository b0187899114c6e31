"""Whether Ray's processes can be reached: before a cluster is joined or started, and while trials run.

Ray itself waits for minutes where nothing listens, and ends its driver with a line of its log where it has lost a part.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from mfm_tune.errors import OptionError, UserError

ANSWER_S = 8.0
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # of an HTTP/2 client, with empty settings
SETTINGS = 4  # the type of the frame with which an HTTP/2 server answers
EVERY_S = 1.0


def check_address(address: str) -> None:
    """See that something like Ray listens where a cluster is to be joined.

    Args:
        address: HOST:PORT, with an IPv6 host in brackets; `auto` is for Ray to find out.

    Raises:
        OptionError: It is no such address, or nothing that speaks gRPC answers there.
    """
    if address == "auto":
        return
    place = _host_and_port(address)
    if place is None:
        raise OptionError(
            "--address (or RAY_ADDRESS) must be HOST:PORT of the cluster's head, or 'auto' on one of its machines, "
            f"got '{address}'."
        )
    try:
        _greet(place)
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or error
        raise OptionError(
            f"--address {address} cannot be joined: {why}; start the cluster, give HOST:PORT of its head, or leave "
            "--address out (and RAY_ADDRESS unset) to use this machine."
        ) from error


def check_loopback() -> None:
    """See that this machine can talk to itself, as Ray's processes do.

    Raises:
        UserError: There is no loopback device, or it is down.
    """
    try:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            _connect(listener.getsockname())
    except OSError as error:
        raise UserError(
            "Ray's processes cannot talk to each other, because 127.0.0.1 cannot be reached "
            f"({error.strerror or error}); bring the loopback device up (ip link set lo up), or give --inline."
        ) from error


@dataclass(frozen=True)
class Part:
    """A process that a run cannot do without.

    Args:
        name: What it is called in a sentence.
        address: HOST:PORT at which it listens.
        patience_s: How long it may be silent. Ray ends its driver by itself after 60 s without the GCS, sooner without
            the raylet.
    """

    name: str
    address: str
    patience_s: float


@contextmanager
def watched(parts: Sequence[Part], lost: Callable[[Part], None]) -> Iterator[None]:
    """Look every second whether all parts still listen.

    Args:
        lost: Told the first that does not, once, from a thread of its own.
    """
    ended = threading.Event()
    threading.Thread(target=_look, args=(parts, lost, ended), name="watch of Ray", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _look(parts: Sequence[Part], lost: Callable[[Part], None], ended: threading.Event) -> None:
    heard = dict.fromkeys(parts, time.monotonic())
    while not ended.wait(EVERY_S):
        for part in parts:
            if _listens(part.address):
                heard[part] = time.monotonic()
            elif time.monotonic() - heard[part] > part.patience_s:
                lost(part)
                return


def _listens(address: str) -> bool:
    """Whether a process listens; what this process itself cannot do (it has no file descriptor left) says nothing."""
    place = _host_and_port(address)
    try:
        if place is not None:
            _connect(place)
    except (ConnectionError, TimeoutError):
        return False
    except OSError:
        return True
    return True


def _connect(place: tuple[str, int]) -> None:
    socket.create_connection(place, timeout=ANSWER_S).close()


def _greet(place: tuple[str, int]) -> None:
    """Connect, and see that gRPC is spoken there. With TLS that shows only to those who have the certificates."""
    with closing(socket.create_connection(place, timeout=ANSWER_S)) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return
        connection.sendall(GREETING)
        answer = connection.recv(9, socket.MSG_WAITALL)
        if len(answer) < 9 or answer[3] != SETTINGS:
            raise ConnectionError("what listens there is not Ray")


def _host_and_port(address: str) -> tuple[str, int] | None:
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or "/" in host or (":" in bare and bare == host) or not port.isdecimal() or not 0 < int(port) < 65536:
        return None
    return bare, int(port)
