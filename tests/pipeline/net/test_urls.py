"""URLs as people write them are read as browsers read them, and nothing secret in them is shown."""

from __future__ import annotations

import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.pipeline.net.request_url import RequestUrl
from surd.pipeline.net.urls import is_http, redact_secrets, redact_text, tidy_url, url_identity, web_url
from surd.pipeline.rejection import Rejected
from tests.fuzz import FUZZED

SIGNED = [
    "https://h.example/a.png?X-Amz-Credential=S3CRET&X-Amz-Date=1&X-Amz-Signature=S3CRET&X-Amz-Security-Token=S3CRET",
    "https://h.example/a.png?X-Goog-Signature=S3CRET&X-Goog-Credential=S3CRET",
    "https://h.example/a.png?sv=2023&se=2024&sp=r&sr=b&sig=S3CRET",
    "https://h.example/a.png?Expires=17&Signature=S3CRET&Key-Pair-Id=S3CRET&Policy=S3CRET",
    "https://h.example/a.png?AWSAccessKeyId=S3CRET&Expires=17&Signature=S3CRET",
    "https://h.example/a.png?OSSAccessKeyId=S3CRET&Expires=17&Signature=S3CRET",
    "https://h.example/a.png?ex=66&is=65&hm=S3CRET",
    "https://user:S3CRET@h.example/a.png",
    "https://user:S3CRET@S3CRET@h.example/a.png",
    "https://S3CRET@h.example/a.png",
    "https://h.example/a.png?access_token=S3CRET&api_key=S3CRET&apikey=S3CRET&accessToken=S3CRET&jwt=S3CRET",
    "https://h.example/a.png#access_token=S3CRET",
]


@pytest.mark.parametrize("url", SIGNED)
def test_users_keys_and_signatures_are_in_no_form_of_a_url_that_is_shown(url):
    assert redact_secrets(url) == "https://h.example/a.png"
    assert redact_secrets(f"{url}{'&' if '?' in url else '?'}w=3") == "https://h.example/a.png?w=3" or "#" in url
    assert "S3CRET" not in redact_text(f"cannot be read (404, url='{url}'), nor \"{url}\" or <{url}>")
    assert "S3CRET" not in redact_text(f"gallery:{url}") and "S3CRET" not in url_identity(url)
    quoted = httpx.URL("https://p.example/i", params={"url": url, "w": "3"})
    assert "S3CRET" not in redact_secrets(str(quoted)) and "w=3" in redact_secrets(str(quoted))


def test_secrets_are_taken_out_of_what_only_looks_like_a_url():
    assert redact_text("/x/my image.png?sig=abc&w=3") == "/x/my image.png?sig=[hidden]&w=3"
    assert redact_text("is 1 = 2? a fox & key=value, https://h.example/a?b=1") == (
        "is 1 = 2? a fox & key=value, https://h.example/a?b=1"
    )


def test_an_image_signed_anew_is_the_same_and_one_with_another_token_is_another():
    assert url_identity("https://h.example/a?X-Amz-Signature=1&X-Amz-Expires=2") == url_identity("https://h.example/a")
    one, other = (url_identity(f"https://h.example/image?token={token}") for token in ("abcd", "efgh"))
    assert one != other and "abcd" not in one
    assert url_identity("https://h.example/a.png?b=1#c") == "https://h.example/a.png?b=1#c"


@pytest.mark.parametrize(
    ("stated", "url"),
    [
        ("http://h.example/my image.png", "http://h.example/my%20image.png"),
        (" \u200b\ufeffhttp://h.example/a.png\u00a0\n", "http://h.example/a.png"),
        ("http:\\\\h.example\\a\\b.png?q=\\d", "http://h.example/a/b.png?q=\\d"),
        ("//h.example/a.png", "http://h.example/a.png"),
        ("http:/h.example/a.png", "http://h.example/a.png"),
        ("HTTPS:///h.example/a.png", "https://h.example/a.png"),
        ("www.h.example/a.png", "http://www.h.example/a.png"),
        ("127.0.0.1:80/a.png", "http://127.0.0.1:80/a.png"),
        ("http://h.example/a?x=1&amp;y=2", "http://h.example/a?x=1&y=2"),
        ('"http://h.example/a.png"', "http://h.example/a.png"),
        ("<http://h.example/a.png>", "http://h.example/a.png"),
        ("http://h.example/a\n\tb.png", "http://h.example/ab.png"),
        ("http://h.example/größe.png", "http://h.example/größe.png"),
    ],
)
def test_a_url_is_read_as_browsers_read_it(stated, url):
    assert web_url(stated) == url and is_http(url)
    assert RequestUrl.of(url).text.isascii()


@pytest.mark.parametrize(
    "stated", ["", " ", "a.png", "images/a.png", "ftp://h/a", "javascript:1", "http://x /", "///", "C:\\a.png"]
)
def test_what_is_no_web_address_does_not_become_one(stated):
    assert not is_http(web_url(stated))


PARTS = st.sampled_from(
    ["http", "https", ":", "/", "//", "\\", "@", "?", "#", "&", "&amp;", "=", "%", "%3A", "%2F", "sig", "token",
     "S3CRET", "url=", " ", "\t", "\n", "\x00", "\ud800", "é", "[", "]", "::1", "h.example", "127.0.0.1", ":99999",
     ".", ";"]
)  # fmt: skip


@pytest.mark.fuzz
@FUZZED
@given(st.lists(PARTS | st.text(max_size=8), max_size=40).map("".join))
def test_no_text_crashes_what_reads_urls(text):
    for url in (web_url(text), tidy_url(text), text):
        redact_text(url), url_identity(url)
        assert redact_secrets(redact_secrets(url)) == redact_secrets(url)
        if is_http(url):
            try:
                RequestUrl.of(url)
            except (Rejected, httpx.InvalidURL, ValueError):
                continue


@pytest.mark.parametrize("piece", ["a", "/", "://", "@", "&", "=", "?a=", "%3A://", "key_", "http://a@"])
def test_texts_of_any_length_are_redacted_in_linear_time(piece):
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        started = time.perf_counter()
        redact_text(text), redact_secrets(text), url_identity(f"http://h/?{text}")
        return time.perf_counter() - started

    assert seconds(100_000) < 40 * max(seconds(10_000), 0.004)  # quadratic: 100 times
