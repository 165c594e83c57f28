"""Of a list of URLs as people write them at least as many images are got as curl gets."""

from __future__ import annotations

from tests.bench import hostile_urls


def test_every_image_is_got_that_curl_gets_and_all_that_browsers_would(tmp_path):
    size = 5 * len(hostile_urls.KINDS)
    with hostile_urls.server_of(size) as server:
        addresses = hostile_urls.urls(server, size)
        ours = hostile_urls.got_by_surd(addresses, tmp_path)
        assert not hostile_urls.got_by_curl(addresses, tmp_path) - ours
    assert ours == dict.fromkeys(hostile_urls.KINDS, 5)
