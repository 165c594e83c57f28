"""httpx over httpcore's own pools: connections by the guard, errors by httpx's names."""

from __future__ import annotations

import asyncio
import ssl

import httpcore
import httpx
import pytest

from surd.pipeline.net.address_guard import AddressGuard, ForbiddenAddress
from surd.pipeline.net.httpcore_transport import AsyncHttpcoreTransport, HttpcoreTransport, _errors_of_httpx

pytest_plugins = ["tests.pipeline.served"]

ERRORS = [
    name
    for name in httpcore.__all__
    if isinstance(kind := getattr(httpcore, name), type)
    and issubclass(kind, Exception)
    and kind is not httpcore.ConnectionNotAvailable  # the pool handles it
]


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_httpcore_is_raised_as_that_of_httpx(name):
    with pytest.raises(getattr(httpx, name), match="why") as raised, _errors_of_httpx():
        raise getattr(httpcore, name)("why")
    assert type(raised.value).__name__ == name


def test_a_client_sends_bodies_and_follows_redirects_to_allowed_addresses_only(serve):
    def answer(request):
        if request.path == "/moved":
            request.send(302, Location="/here")
        elif request.path == "/inward":
            request.send(302, Location="http://127.0.0.2:9/")
        else:
            request.send(200, b"got " + request.body, "text/plain")

    server = serve(answer)
    transport = HttpcoreTransport(AddressGuard(["127.0.0.1"]), ssl.create_default_context())
    with httpx.Client(transport=transport, follow_redirects=True) as client:
        assert client.post(f"{server.url}/x", content=b"bytes").text == "got bytes"
        assert client.get(f"{server.url}/moved").text == "got "
        with pytest.raises(ForbiddenAddress):
            client.get(f"{server.url}/inward")


def test_a_body_that_breaks_off_is_httpxs_error_for_both(serve):
    def answer(request):
        request.send(200, b"part", Content_Length="100")
        request.hang_up()

    async def asynchronously() -> None:
        transport = AsyncHttpcoreTransport(guard, tls, httpx.Limits())
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get(url)

    url, guard, tls = serve(answer).url, AddressGuard(["127.0.0.1"]), ssl.create_default_context()
    with httpx.Client(transport=HttpcoreTransport(guard, tls)) as client, pytest.raises(httpx.RemoteProtocolError):
        client.get(url)
    with pytest.raises(httpx.RemoteProtocolError):
        asyncio.run(asynchronously())
