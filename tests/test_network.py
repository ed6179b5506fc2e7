"""HTTP requests: which addresses, which redirects, who gets the token, and failures in plain words."""

from __future__ import annotations

import urllib.request

import pytest
from web_site import Step, running_site

from msedge.errors import DownloadError
from msedge.network import _Redirects, head, open_url, wait_asked

TOKEN = {"Authorization": "Bearer secret", "Range": "bytes=0-"}


def read(url: str, **how) -> bytes:
    with open_url(url, **how) as response:
        return response.read()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/f", "only https:// is"),
        ("ftp://example.org/f", "only https:// is"),
        ("file:///etc/passwd", "only https:// is"),
        ("model.safetensors", "only https:// is"),
        ("https:///f", "only https:// is"),
        ("http://127.0.0.1.example.org/f", "only https:// is"),
        ("https://me:word@example.org/f", "holds a user's name or password"),
    ],
)
def test_other_addresses_are_refused(url, words):
    with pytest.raises(DownloadError, match=words) as e:
        open_url(url)
    assert "word" not in e.value.message.replace("password", "")


def test_a_proxy_of_the_environment_is_used(site, monkeypatch):
    site.serve("/f", b"through the proxy")
    monkeypatch.setenv("http_proxy", site.url)
    assert read("http://weights.invalid/f", plain_http=True) == b"through the proxy"
    assert site.seen[0].path == "http://weights.invalid/f"


def test_a_redirect_is_followed_and_a_token_stays_with_its_host(site):
    with running_site() as other:
        elsewhere = other.serve("/there", b"content")
        site.serve("/f", steps=[Step(302, {"Location": "/moved"})])
        site.serve("/moved", steps=[Step(308, {"Location": elsewhere})])
        assert read(f"{site.url}/f", headers=TOKEN) == b"content"
    assert [s.headers["Authorization"] for s in site.seen] == ["Bearer secret"] * 2
    assert other.seen[0].headers["Authorization"] is None
    assert other.seen[0].range == "bytes=0-"


def test_https_does_not_lead_back_to_http():
    request = urllib.request.Request("https://example.org/f")
    with pytest.raises(DownloadError, match=r"example\.org sends to http://example\.org/g, which is not https://"):
        _Redirects().redirect_request(request, open("/dev/null"), 302, "Found", {}, "http://example.org/g")  # noqa: PTH123, SIM115
    new = _Redirects().redirect_request(request, None, 302, "Found", {}, "https://example.org/g")
    assert new.full_url == "https://example.org/g"


def test_a_circle_of_redirects_is_one_line(site):
    site.serve("/f", steps=[Step(302, {"Location": "/f"})] * 20)
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 answers 302") as e:
        open_url(f"{site.url}/f")
    assert "\n" not in str(e.value)


def test_head_gives_the_headers_before_another_host(site):
    with running_site() as other:
        moved = {"Location": other.serve("/there", b"x"), "X-Linked-Size": "5"}
        site.serve("/f", steps=[Step(307, {"Location": "/renamed"})])
        site.serve("/renamed", steps=[Step(302, moved)])
        assert head(f"{site.url}/f")["X-Linked-Size"] == "5"
    assert [s.method for s in site.seen] == ["HEAD", "HEAD"]
    assert other.seen == []
    assert head(site.serve("/g", b"12345"))["Content-Length"] == "5"
    with pytest.raises(DownloadError, match="404"):
        head(f"{site.url}/nothing")


def test_something_else_than_http_is_one_line(site):
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 cannot be reached: .*ssl") as e:
        open_url(site.url.replace("http:", "https:") + "/f")
    assert "\n" not in str(e.value)


def test_retry_after_is_seconds_or_a_date():
    assert wait_asked({"Retry-After": "7"}) == 7
    assert wait_asked({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert [wait_asked({"Retry-After": text}) for text in ("soon", "-1", "", "²")] == [None] * 4
    assert wait_asked({}) is None
