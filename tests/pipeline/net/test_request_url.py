"""A URL has one normal form, whichever way it is found."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.net.request_url import _PLAIN, RequestUrl
from surd.pipeline.rejection import Rejected

ODD = "abc./:@?&=%2F%zz~#é [];|^'\"<>\\{}`+$,!*()-_0"


def by_httpx(url: str) -> str:
    return str(httpx.URL(url).copy_with(fragment=None))


@given(
    st.text(ODD, max_size=12), st.sampled_from(["http://a.example/", "https://A.example:443/", "http://127.0.0.1:80/"])
)
def test_the_normal_form_is_httpxs(rest, start):
    assert RequestUrl.of(start + rest).text == by_httpx(start + rest)


@given(st.from_regex(_PLAIN, fullmatch=True))
def test_a_plain_url_is_its_own_normal_form_or_refused_by_httpx_too(url):
    try:
        expected = by_httpx(url)
    except httpx.InvalidURL:
        with pytest.raises((httpx.InvalidURL, ValueError)):
            RequestUrl.of(url)
        return
    parsed = httpx.URL(url)
    if not parsed.host.strip("."):
        with pytest.raises(Rejected, match=r"not an http\(s\) URL"):
            RequestUrl.of(url)
        return
    if (parsed.port or 0) > 65535:
        with pytest.raises(httpx.InvalidURL, match="out of range"):
            RequestUrl.of(url)
        return
    assert RequestUrl.of(url).text == expected


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://a.example/x.png", ("http://a.example", "http", "a.example", 80)),
        ("https://a.example./x?y=1#z", ("https://a.example.", "https", "a.example", 443)),
        ("HTTP://B.example:8080", ("http://b.example:8080", "http", "b.example", 8080)),
        ("http://[::1]:81/x", ("http://[::1]:81", "http", "::1", 81)),
        ("http://user@127.0.0.1/", ("http://user@127.0.0.1", "http", "127.0.0.1", 80)),
    ],
)
def test_an_origin_is_told_by_its_parts(url, origin):
    assert RequestUrl.of(url).origin == origin and "#" not in RequestUrl.of(url).text


def test_redirects_are_joined_and_other_schemes_refused():
    start = RequestUrl.of("http://a.example/x/y.png")
    assert start.join("../z.png").text == "http://a.example/z.png"
    assert start.join("//b.example/").origin.host == "b.example"
    for url in ("file:///etc/passwd", "ftp://a.example/x", "/x", "http:///x"):
        with pytest.raises((Rejected, httpx.InvalidURL)):
            RequestUrl.of(url)
