"""The address of the Ray cluster, RAY_ADDRESS as Ray itself reads it, tried before Ray does: that takes minutes."""

from __future__ import annotations

import os
import socket

from surd.schemas import SurdError

_TIMEOUT = 10.0  # seconds until a cluster's port answers
_HERE = ("", "auto", "local")  # addresses that name no machine


def check_address() -> None:
    """Raises SurdError when no cluster answers at the host and port that RAY_ADDRESS names."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in _HERE:
        return
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT) as connection:
            answers = os.environ.get("RAY_USE_TLS", "0") != "0" or _speaks_http2(connection)
    except (ValueError, OverflowError):
        raise unreachable("it is not HOST:PORT") from None
    except OSError as error:
        raise unreachable(error.strerror or str(error)) from None
    if not answers:
        raise unreachable("what listens there is not Ray")


def _speaks_http2(connection: socket.socket) -> bool:
    """Whether a server opens HTTP/2 with its settings (RFC 9113, section 3.4): all parts of a cluster speak gRPC."""
    connection.settimeout(_TIMEOUT / 2)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
    try:
        return connection.recv(4, socket.MSG_WAITALL)[3:] == b"\x04"
    except TimeoutError:
        return False


def unreachable(why: str) -> SurdError:
    """The error of a cluster that is not there."""
    return SurdError(
        f"RAY_ADDRESS is {os.environ.get('RAY_ADDRESS', '')!r}: no Ray cluster answers there ({why}); start it, correct"
        " the address, or unset RAY_ADDRESS to use this machine alone"
    )
