"""HTTP requests as msedge makes them: HTTPS, the environment's proxies, careful redirects, failures in plain words."""

from __future__ import annotations

import email.utils
import http.client
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping

from msedge.errors import DownloadError

TIMEOUT = 30.0  # seconds without a byte


def host_of(url: str) -> str:
    """The name of the server in `url`, without user, password and port."""
    return urllib.parse.urlsplit(url).hostname or url


def check_url(url: str, plain_http: bool = False) -> None:
    """Raise DownloadError for a URL that msedge does not fetch: HTTP is for this machine, or where `plain_http` says so."""
    parts = urllib.parse.urlsplit(url)
    if parts.username or parts.password:
        raise DownloadError(f"a URL at {parts.hostname} holds a user's name or password", "give the address without them")
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and (local or plain_http))):
        raise DownloadError(f"{url} is not fetched: only https:// is", "give an https:// address")


def open_url(url: str, headers: Mapping[str, str] | None = None, *, plain_http: bool = False) -> http.client.HTTPResponse:
    """GET `url`, following redirects. The answer is to be closed by the caller.

    Raises DownloadError: with the status where a server refused, without one where none could be reached.
    """
    return _open(_request(url, headers, plain_http), _opener)


def head(url: str, headers: Mapping[str, str] | None = None, *, plain_http: bool = False) -> Mapping[str, str]:
    """The headers that answer HEAD `url`; redirects to another host are not followed, their own headers are the answer.

    Raises DownloadError as `open_url` does.
    """
    request = _request(url, headers, plain_http)
    request.method = "HEAD"
    try:
        with _open(request, _opener_of_one_host) as response:
            return response.headers
    except DownloadError as e:
        if e.status in _REDIRECTS:
            return e.headers
        raise


def wait_asked(headers: Mapping[str, str]) -> float | None:
    """Seconds that a `Retry-After` header asks to wait, None where it is absent or senseless."""
    text = headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def reason(error: Exception) -> str:
    """What went wrong with a connection, in few words."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, TimeoutError):
        return f"nothing came for {TIMEOUT:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, (http.client.HTTPException, ConnectionResetError, BrokenPipeError)):
        return "the connection broke"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0].lower()


_REDIRECTS = (301, 302, 303, 307, 308)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps the method and the secrets: no way back from HTTPS, and a token only for the host that it was meant for."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        old_parts, parts = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if parts.scheme != "https" and (old_parts.scheme == "https" or parts.scheme != "http"):
            fp.close()
            raise DownloadError(f"{host_of(req.full_url)} sends to {newurl}, which is not https://", status=code)
        if old_parts.netloc != parts.netloc:
            new.remove_header("Authorization")
        new.method = req.get_method()
        return new

    def http_error_308(self, req, fp, code, msg, headers):
        return self.http_error_302(req, fp, 307, msg, headers)  # Python 3.10 does not know 308


class _RedirectsOfOneHost(_Redirects):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urllib.parse.urlsplit(req.full_url).netloc != urllib.parse.urlsplit(newurl).netloc:
            return None  # urllib then raises the redirect itself
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Redirects)


def _opener_of_one_host() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_RedirectsOfOneHost)


def _request(url: str, headers: Mapping[str, str] | None, plain_http: bool) -> urllib.request.Request:
    check_url(url, plain_http)
    return urllib.request.Request(url, headers={"User-Agent": "msedge", "Accept-Encoding": "identity", **(headers or {})})


def _open(request: urllib.request.Request, opener) -> http.client.HTTPResponse:
    host = host_of(request.full_url)
    try:
        return opener().open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        with e:
            words = (str(e.reason).splitlines() or [""])[0]
            raise DownloadError(f"{host} answers {e.code} {words}".rstrip(), "", e.code, e.headers) from None
    except (OSError, http.client.HTTPException, ValueError) as e:
        hint = "check the network, and HTTPS_PROXY where a proxy is needed"
        raise DownloadError(f"{host} cannot be reached: {reason(e)}", hint) from None
