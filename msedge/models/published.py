"""Published weights by name: fetched once into the user cache, checked, and found there from then on without a network.

    hf:<owner>/<model>[@revision]   `model.safetensors` of a repository at huggingface.co (or HF_ENDPOINT)
    mindcv:<name>                   what MindCV has published for its model of that name
    published                       whichever of the two the model at hand has

`HF_TOKEN` opens gated and private repositories. The sums: huggingface.co tells the sha256 of large files in the header
X-Linked-Etag and in its API; MindCV's file names end in the first eight digits (its configs/README.md).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from msedge.artifact import cache_dir
from msedge.download import PAUSES, download, pause_after
from msedge.errors import DownloadError, ModelError
from msedge.models.catalogue import CATALOGUE
from msedge.models.registry import MINDCV, architecture
from msedge.network import head, host_of, open_url
from msedge.progress import Progress, Say, no_progress, silent

HUGGINGFACE = "hf:"
PUBLISHED = "published"
_FILE = "model.safetensors"
_NAME = re.compile(r"hf:(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)
_LONGEST_ANSWER = 16 << 20  # bytes of an API's answer


@dataclass(frozen=True)
class Source:
    """Where published weights lie."""

    name: str  # hf:<owner>/<model>[@revision] or mindcv:<name>
    url: str
    path: Path  # in the cache, whether it is there yet or not


def is_published(weights: str | Path) -> bool:
    """Whether this is a name of published weights rather than a path."""
    return str(weights) == PUBLISHED or str(weights).startswith((HUGGINGFACE, MINDCV))


def source_of(weights: str, model: str = "") -> Source:
    """Where the named weights lie; `model` is the architecture that `published` means.

    Raises ModelError for a malformed name, an unknown model, and one that has no published weights.
    """
    if weights == PUBLISHED:
        return source_of(_published_name(model))
    if weights.startswith(MINDCV):
        from msedge.models.mindcv import published_url

        url = published_url(weights.removeprefix(MINDCV))
        return Source(weights, url, cache_dir() / "weights" / "mindcv" / url.rpartition("/")[2])
    found = _NAME.fullmatch(weights)
    if not found:
        raise ModelError(
            f"'{weights}' is no name of published weights", "write hf:<owner>/<model> or hf:<owner>/<model>@<revision>"
        )
    repository, revision = found["repository"], quote(found["revision"] or "main", safe="")
    folder = cache_dir() / "weights" / "hf" / repository / revision
    return Source(weights, f"{_endpoint()}/{repository}/resolve/{revision}/{_FILE}", folder / _FILE)


def obtain(
    weights: str | Path,
    model: str = "",
    *,
    force: bool = False,
    say: Say = silent,
    progress: Progress = no_progress,
) -> Path:
    """The file that `weights` means: a path as it is, published weights from the cache or the network into the cache.

    `force` fetches them again. Raises ModelError as `source_of`, DownloadError where they cannot be had (then what lies
    in the cache stays), ArtifactError where the disk refuses.
    """
    if not is_published(weights):
        return Path(weights)
    source = source_of(str(weights), model)
    if source.path.exists() and not force:
        return source.path
    new = source.path.with_name(f"new-{source.path.name}") if force else source.path
    try:
        if source.name.startswith(MINDCV):
            _fetch_mindcv(source, new, say, progress)
        else:
            _fetch_huggingface(source, new, say, progress)
    except DownloadError as e:
        raise _explained(e, source) from None
    return new if new == source.path else new.replace(source.path)


def _published_name(model: str) -> str:
    if model.startswith(MINDCV):
        return model
    if model not in CATALOGUE:
        architecture(model)  # raises
    if CATALOGUE[model].source is None:
        raise ModelError(f"there are no published weights of {model}", "train it, or take weights from a file")
    return f"{HUGGINGFACE}{CATALOGUE[model].source}"


def _fetch_mindcv(source: Source, path: Path, say: Say, progress: Progress) -> None:
    checksum = re.search(r"-([0-9a-f]{8})\.ckpt$", source.url)
    if not checksum:
        say(f"{source.name}: no checksum is published for it, only its length is checked")
    download(source.url, path, sha256=checksum and checksum[1], label=source.name, say=say, progress=progress)


def _fetch_huggingface(source: Source, path: Path, say: Say, progress: Progress) -> None:
    headers = {"Authorization": f"Bearer {token}"} if (token := os.environ.get("HF_TOKEN", "").strip()) else {}
    plain_http = source.url.startswith("http://")  # HF_ENDPOINT says so
    facts = _facts(source, headers, plain_http, say)
    url = source.url
    if commit := facts.get("X-Repo-Commit"):  # what the revision means now: a change between two requests does no harm
        url = re.sub(r"/resolve/[^/]+/", f"/resolve/{quote(commit, safe='')}/", url)
    sha256 = facts.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
    size = facts.get("X-Linked-Size", "")
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        sha256, size = _from_api(source, headers, plain_http)
    if not sha256:
        say(f"{source.name}: {host_of(url)} tells no checksum for it, only its length is checked")
    download(
        url,
        path,
        sha256=sha256 or None,
        size=int(size) if str(size).isdigit() else None,
        headers=headers,
        plain_http=plain_http,
        label=source.name,
        say=say,
        progress=progress,
    )


def _facts(source: Source, headers: dict[str, str], plain_http: bool, say: Say) -> Mapping[str, str]:
    """The headers that tell of the file; a busy server is asked again."""
    failures = 0
    while True:
        try:
            return head(source.url, headers, plain_http=plain_http)
        except DownloadError as e:
            pause = pause_after(e, failures, len(PAUSES)) if e.status else None
            if pause is None:
                raise
            failures += 1
            say(f"{source.name}: {e.message}; trying again in {pause:.0f} s")
            time.sleep(pause)


def _from_api(source: Source, headers: dict[str, str], plain_http: bool) -> tuple[str, str]:
    """sha256 and size from the list of files in the API's answer; empty where it has none."""
    repository, _, rest = source.url.removeprefix(f"{_endpoint()}/").partition("/resolve/")
    url = f"{_endpoint()}/api/models/{repository}/revision/{rest.partition('/')[0]}?blobs=true"
    with contextlib.suppress(DownloadError, OSError, ValueError, KeyError, TypeError, AttributeError):
        with open_url(url, headers, plain_http=plain_http) as response:
            document = json.loads(response.read(_LONGEST_ANSWER))
        entry = next((f["lfs"] for f in document["siblings"] if f["rfilename"] == _FILE), None)
        if entry and re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]):
            return entry["sha256"], str(entry["size"])
    return "", ""


def _explained(error: DownloadError, source: Source) -> DownloadError:
    """The failure in terms of models, with what to do about it."""
    host, code = host_of(source.url), error.headers.get("X-Error-Code", "")
    if not source.name.startswith(MINDCV):
        if code == "GatedRepo" or error.status == 403:
            error.message = f"{source.name} is only for those who have accepted its terms at {host}"
            error.hint = "accept them there, then set HF_TOKEN to your access token"
            return error
        if code == "RepoNotFound" or (error.status == 401 and not code):
            error.message = f"{host} has no model {source.name.removeprefix(HUGGINGFACE)}, or it is private"
            error.hint = "look at its name; for a private one set HF_TOKEN to your access token"
            return error
        if code == "RevisionNotFound":
            error.message, error.hint = (
                f"{host} has no such revision: {source.name}",
                "leave out @ and what follows for the newest",
            )
            return error
        if code == "EntryNotFound" or error.status == 404:
            error.message = f"{source.name} has no {_FILE} at {host}"
            error.hint = "pickled weights (.bin, .pth) can run code when opened: take a model that has a .safetensors"
            return error
    if not error.message.startswith(source.name):
        error.message = f"{source.name}: {error.message}"
    by_hand = f"or put the file at {source.path}, or use --weights FILE"
    error.hint = f"{error.hint}; {by_hand}" if error.hint else by_hand.removeprefix("or ")
    return error


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT", "").strip() or "https://huggingface.co").rstrip("/")
