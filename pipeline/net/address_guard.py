"""Protection against SSRF: only public addresses, and those that the user allows, may be connected to.

A name is resolved once, all its addresses are checked, and the connection is made to one of those addresses, so that a
name which resolves differently the second time (DNS rebinding) gains nothing. Spellings such as ``2130706433``,
``0x7f.1`` or ``0177.0.0.1`` are resolved like any name, and the resulting address is checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Public by the registry, but inside a cloud it is the cloud's own service (Azure's wire server).
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE = ipaddress.IPv6Network("::/96")


class ForbiddenAddress(Exception):
    """A host that is, or resolves to, an address which an untrusted URL must not reach."""


def why_forbidden(address: Address) -> str | None:
    """Why an address must not be contacted, in a word or two; None if it is public."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := _embedded(address)) is not None:
        why = why_forbidden(inner)
        return why and f"{why}, written as IPv6"
    if address in _METADATA or address == ipaddress.ip_address("169.254.169.254"):
        return "a cloud metadata service"
    kinds = ("unspecified", "loopback", "link_local", "multicast", "reserved", "site_local", "private")
    kind = next((kind for kind in kinds if getattr(address, f"is_{kind}", False)), None)
    if kind is None and not address.is_global:
        kind = "not public"
    return kind and kind.replace("_", "-")


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv4-mapped, -compatible, 6to4, Teredo or NAT64 address."""
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or (address in _V4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


class AddressGuard:
    """Decides which hosts may be contacted.

    ``allow_hosts`` are names, addresses and networks that the user allows (``fetch.allow_hosts``); ``trusted_origin``
    is the (host, port) that the user gave as the source. It is trusted only if it is an address or ``localhost``: the
    owner of any other name could point it into the user's network.
    """

    def __init__(self, allow_hosts: Iterable[str] = (), trusted_origin: tuple[str, int] | None = None) -> None:
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for entry in allow_hosts:
            try:
                self._networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                self._names.add(entry.lower().rstrip("."))
        is_certain = trusted_origin and (trusted_origin[0] == "localhost" or _literal(trusted_origin[0]))
        self._trusted_origin = trusted_origin if is_certain else None

    def is_trusted(self, host: str, port: int) -> bool:
        """Whether this is the source that the user gave, by address or as ``localhost``."""
        return (host, port) == self._trusted_origin

    async def resolve(self, host: str, port: int) -> list[str]:
        """``resolve_now`` without blocking the event loop."""
        if _literal(host) is not None:
            return self.resolve_now(host, port)
        return await asyncio.get_running_loop().run_in_executor(None, self.resolve_now, host, port)

    def resolve_now(self, host: str, port: int) -> list[str]:
        """All addresses of a host, each of them checked. Raises ForbiddenAddress, or OSError if it does not resolve."""
        if (literal := _literal(host)) is not None:
            addresses = [literal]
        else:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = [ipaddress.ip_address(info[4][0]) for info in infos]
        if not (self.is_trusted(host, port) or host.lower().rstrip(".") in self._names):
            for address in addresses:
                self._check(host, address)
        return [str(address) for address in dict.fromkeys(addresses)]

    async def check_name(self, host: str, port: int) -> None:
        """``check_name_now`` without blocking the event loop."""
        await asyncio.get_running_loop().run_in_executor(None, self.check_name_now, host, port)

    def check_name_now(self, host: str, port: int) -> None:
        """The same check for a request that goes through a proxy, which resolves the name itself.

        A name that this machine can resolve must be allowed; one that only the proxy can resolve is left to the proxy.
        """
        try:
            self.resolve_now(host, port)
        except (OSError, UnicodeError):
            if host == "localhost" or host.endswith(".localhost"):
                raise ForbiddenAddress(f"{host} is this machine") from None

    def _check(self, host: str, address: Address) -> None:
        if any(address in network for network in self._networks if network.version == address.version):
            return
        if why := why_forbidden(address):
            where = str(address) if str(address) == host else f"{host} is {address}"
            raise ForbiddenAddress(f"{where}: {why}; fetch.allow_hosts would let it through")


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Opens TCP connections only to addresses that the guard has checked. TLS still verifies the name in the URL."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._guard.resolve(host, port)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time") from None
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host} does not resolve ({error})") from None
        for last, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if last == 0:
                    raise
        raise httpcore.ConnectError(f"the name {host} has no address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class GuardedSyncBackend(httpcore.SyncBackend):
    """The same for a synchronous client."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            addresses = self._guard.resolve_now(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host} does not resolve ({error})") from None
        for last, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if last == 0:
                    raise
        raise httpcore.ConnectError(f"the name {host} has no address")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").rstrip("."))
    except ValueError:
        return None
