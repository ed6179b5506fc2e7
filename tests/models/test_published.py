"""Published weights by name, from a server on this machine that answers as huggingface.co does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from families import small
from safetensors.numpy import save
from web_site import Site, Step, running_site

from msedge import load_weights
from msedge.cli import _run
from msedge.cli.models import models
from msedge.errors import DownloadError, ModelError
from msedge.models import save_checkpoint, state
from msedge.models.catalogue import CATALOGUE
from msedge.models.published import is_published, obtain, source_of
from msedge.recipe import load_recipe

COMMIT = "1f2e3d4c5b6a79881f2e3d4c5b6a79881f2e3d4c"
NAME = "timm/some_net.in1k"
PATH = f"/{NAME}/resolve/main/model.safetensors"
WEIGHTS = save({"w": np.arange(100_000, dtype=np.float32)})
SUM = hashlib.sha256(WEIGHTS).hexdigest()

pytestmark = pytest.mark.usefixtures("no_pauses")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("MSEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "cache" / "weights"


class Hub:
    """Names and versions on `site`, the bytes on `store`, as the real one has it."""

    def __init__(self, site: Site, store: Site):
        self.site, self.store = site, store

    def publish(self, name: str, content: bytes, checksum: str | None = None, revision: str = "main", linked: bool = True):
        place = self.store.serve(f"/blobs/{name}", content)
        headers = {"Location": place, "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(content))}
        if linked:
            headers["X-Linked-Etag"] = f'"{checksum or hashlib.sha256(content).hexdigest()}"'
        for r in (revision, COMMIT):
            self.site.serve(f"/{name}/resolve/{r}/model.safetensors", steps=[Step(302, headers)] * 9)

    def refuse(self, status: int, code: str = ""):
        self.site.serve(PATH, steps=[Step(status, {"X-Error-Code": code} if code else {})] * 9)


@pytest.fixture
def hub(site, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", site.url + "/")
    with running_site() as store:
        yield Hub(site, store)


def methods(site: Site) -> list[str]:
    return [f"{s.method} {s.path}" for s in site.seen]


def test_a_name_becomes_a_checked_file_in_the_cache(hub, cache):
    hub.publish(NAME, WEIGHTS)
    path = obtain(f"hf:{NAME}")
    assert path == cache / "hf" / "timm" / "some_net.in1k" / "main" / "model.safetensors"
    assert path.read_bytes() == WEIGHTS
    assert methods(hub.site) == [f"HEAD {PATH}", f"GET {PATH.replace('main', COMMIT)}"]
    assert [s.path for s in hub.store.seen] == [f"/blobs/{NAME}"]


def test_the_second_time_no_network_is_needed(hub, monkeypatch):
    hub.publish(NAME, WEIGHTS)
    path = obtain(f"hf:{NAME}")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert obtain(f"hf:{NAME}") == path


def test_a_revision_has_a_file_of_its_own(hub, cache):
    hub.publish(NAME, WEIGHTS)
    first = obtain(f"hf:{NAME}")
    other = WEIGHTS[:-4] + b"\1\1\1\1"
    hub.publish(NAME, other, revision="refs%2Fpr%2F1")
    second = obtain(f"hf:{NAME}@refs/pr/1")
    assert (first.read_bytes(), second.read_bytes()) == (WEIGHTS, other)
    assert second == cache / "hf" / NAME / "refs%2Fpr%2F1" / "model.safetensors"


def test_the_token_goes_to_the_hub_and_not_to_the_store(hub, monkeypatch):
    hub.publish(NAME, WEIGHTS)
    monkeypatch.setenv("HF_TOKEN", "hf_secret\n")
    obtain(f"hf:{NAME}")
    assert {s.headers["Authorization"] for s in hub.site.seen} == {"Bearer hf_secret"}
    assert {s.headers["Authorization"] for s in hub.store.seen} == {None}


def test_other_bytes_than_the_hub_tells_of_are_refused(hub, cache):
    hub.publish(NAME, WEIGHTS, checksum="0" * 64)
    with pytest.raises(DownloadError, match=f"hf:{NAME}: what came from 127.0.0.1 has the sha256 {SUM}"):
        obtain(f"hf:{NAME}")
    assert [p for p in cache.rglob("*") if p.is_file()] == []


def api(hub: Hub, checksum: str) -> None:
    lfs = {"sha256": checksum, "size": len(WEIGHTS), "pointerSize": 134}
    files = [{"rfilename": "config.json", "size": 3}, {"rfilename": "model.safetensors", "size": len(WEIGHTS), "lfs": lfs}]
    document = json.dumps({"siblings": files}).encode()
    hub.site.serve(f"/api/models/{NAME}/revision/main?blobs=true", document)


def test_without_the_header_the_api_tells_the_sum(hub):
    hub.publish(NAME, WEIGHTS, linked=False)
    api(hub, SUM)
    obtain(f"hf:{NAME}")
    api(hub, "0" * 64)
    with pytest.raises(DownloadError, match="has the sha256"):
        obtain(f"hf:{NAME}", force=True)
    assert obtain(f"hf:{NAME}").read_bytes() == WEIGHTS  # what was there before stays


@pytest.mark.parametrize("answer", [None, b"<html>", b"[]", b'{"siblings": [{"rfilename": "model.safetensors"}]}'])
def test_without_any_sum_the_user_is_told(hub, answer):
    hub.publish(NAME, WEIGHTS, linked=False)
    if answer:
        hub.site.serve(f"/api/models/{NAME}/revision/main?blobs=true", answer)
    said = []
    assert obtain(f"hf:{NAME}", say=said.append).read_bytes() == WEIGHTS
    assert said == [f"hf:{NAME}: 127.0.0.1 tells no checksum for it, only its length is checked"]


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "GatedRepo", "only for those who have accepted its terms at 127.0.0.1 .*HF_TOKEN"),
        (401, "GatedRepo", "only for those who have accepted its terms"),
        (403, "", "only for those who have accepted its terms"),
        (401, "RepoNotFound", "has no model timm/some_net.in1k, or it is private .*HF_TOKEN"),
        (404, "RepoNotFound", "has no model timm/some_net.in1k, or it is private"),
        (404, "RevisionNotFound", "has no such revision: hf:timm/some_net.in1k"),
        (404, "EntryNotFound", "has no model.safetensors at 127.0.0.1 .*can run code"),
        (404, "", "has no model.safetensors"),
        (500, "", "127.0.0.1 answers 500 .*use --weights FILE"),
    ],
)
def test_refusals_say_what_to_do(hub, status, code, words):
    hub.refuse(status, code)
    with pytest.raises(DownloadError, match=words) as e:
        obtain(f"hf:{NAME}")
    assert "\n" not in str(e.value)


def test_offline_the_line_says_where_the_file_may_be_put(cache, capsys):
    place = cache / "hf" / NAME / "main" / "model.safetensors"
    assert _run(["models", "fetch", f"hf:{NAME}"]) == 2
    assert capsys.readouterr().err == (
        f"msedge: hf:{NAME}: 127.0.0.1 cannot be reached: connection refused (check the network, and HTTPS_PROXY where a "
        f"proxy is needed; or put the file at {place}, or use --weights FILE)\n"
    )
    place.parent.mkdir(parents=True)
    place.write_bytes(WEIGHTS)
    assert obtain(f"hf:{NAME}") == place


def test_a_hub_that_is_busy_is_asked_again(hub):
    hub.publish(NAME, WEIGHTS)
    steps = hub.site.files[PATH].steps
    steps[:0] = [Step(429, {"Retry-After": "0"}), Step(503)]
    said = []
    assert obtain(f"hf:{NAME}", say=said.append).read_bytes() == WEIGHTS
    assert [line.partition(";")[0] for line in said] == [
        f"hf:{NAME}: 127.0.0.1 answers 429 Too Many Requests",
        f"hf:{NAME}: 127.0.0.1 answers 503 Service Unavailable",
    ]


def test_a_download_that_breaks_off_is_taken_up(hub):
    hub.publish(NAME, WEIGHTS)
    hub.store.files[f"/blobs/{NAME}"].steps = [Step(cut=300_000)] + [Step(503)] * 5
    with pytest.raises(DownloadError, match=r"0\.3 MB are kept .*use --weights FILE"):
        obtain(f"hf:{NAME}")
    assert obtain(f"hf:{NAME}").read_bytes() == WEIGHTS
    assert hub.store.seen[-1].range == "bytes=300000-"


@pytest.mark.parametrize(
    "name", ["hf:", "hf:timm", "hf:/x", "hf:timm/", "hf:timm/x/y", "hf:../x", "hf:a/..", "hf:a/b@../c", "hf:a/b@", "hf:a b/c"]
)
def test_malformed_names_are_refused(name):
    with pytest.raises(ModelError, match="is no name of published weights"):
        source_of(name)


def test_paths_are_left_alone(tmp_path):
    assert obtain(tmp_path / "x.safetensors") == tmp_path / "x.safetensors"
    assert obtain("./published") == Path("published")
    assert not is_published("./hf:x")


def test_published_means_the_catalogues_source():
    assert source_of("published", "swin_tiny").name == "hf:timm/swin_tiny_patch4_window7_224.ms_in1k"
    assert source_of("published", "mindcv:resnet18").name == "mindcv:resnet18"
    for name, entry in CATALOGUE.items():
        if entry.source:
            assert source_of("published", name).url.endswith(f"/{entry.source}/resolve/main/model.safetensors")
    with pytest.raises(ModelError, match="no published weights of swin_nano"):
        source_of("published", "swin_nano")
    with pytest.raises(ModelError, match="there is no model 'swin_tony'"):
        source_of("published", "swin_tony")


def test_recipes_name_the_weights_of_their_models():
    named = 0
    for path in (Path(__file__).resolve().parents[2] / "recipes").glob("*.yaml"):
        recipe = load_recipe(path)
        for model in filter(None, (recipe.model, recipe.teacher and recipe.teacher.model)):
            if model.weights:
                named += 1
                assert model.weights == source_of("published", model.name).name
    assert named >= 3


def test_mindcvs_weights_are_found_by_its_own_list(cache):
    source = source_of("mindcv:resnet18")
    assert source.url == "https://download.mindspore.cn/toolkits/mindcv/resnet/resnet18-1e65cd21.ckpt"
    assert source.path == cache / "mindcv" / "resnet18-1e65cd21.ckpt"
    with pytest.raises(ModelError, match="MindCV has no model 'resnet19'"):
        source_of("mindcv:resnet19")
    with pytest.raises(ModelError, match="MindCV has published no weights of convnextv2_tiny"):
        source_of("mindcv:convnextv2_tiny")


@pytest.mark.parametrize(
    ("file", "fits"),
    [("net-{}.ckpt", True), ("net-00000000.ckpt", False), ("net-120_5004_Ascend.ckpt", None), ("net-{}f.ckpt", None)],
)
def test_the_sum_in_the_name_of_a_mindcv_file_is_checked(site, monkeypatch, file, fits):
    file = file.format(SUM[:8])
    url = site.serve(f"/{file}", WEIGHTS)
    monkeypatch.setattr("msedge.models.mindcv.published_url", lambda name: url)
    said = []
    if fits is False:
        with pytest.raises(DownloadError, match=f"has the sha256 {SUM[:8]} and should have 00000000"):
            obtain("mindcv:net", say=said.append)
    else:
        assert obtain("mindcv:net", say=said.append).name == file
    assert said == ([] if fits is not None else ["mindcv:net: no checksum is published for it, only its length is checked"])


def test_weights_load_into_a_model_by_their_name(hub):
    source, target = small("swin_nano", 3), small("swin_nano", 5)
    values = {n: p.asnumpy() for n, p in state(source).items()}
    hub.publish("timm/nano", save(values))
    report = load_weights(target, "hf:timm/nano")
    assert report.notices == ("the head has 3 classes in the file: it starts anew with 5",)
    assert all((state(target)[n].asnumpy() == values[n]).all() for n in report.loaded)


def test_mindcvs_weights_load_into_its_model(site, tmp_path, monkeypatch):
    from msedge.models import create_model

    source, target = create_model("mindcv:squeezenet1_0", 3, 64), create_model("mindcv:squeezenet1_0", 3, 64, seed=1)
    save_checkpoint(source, tmp_path / "net.ckpt")
    content = (tmp_path / "net.ckpt").read_bytes()
    url = site.serve(f"/net-{hashlib.sha256(content).hexdigest()[:8]}.ckpt", content)
    monkeypatch.setattr("msedge.models.mindcv.published_url", lambda name: url)
    assert load_weights(target, "published").notices == ()
    assert all((p.asnumpy() == state(source)[n].asnumpy()).all() for n, p in state(target).items())


def test_fetch_brings_names_of_every_kind_into_the_cache(hub, cache):
    for name in (NAME, CATALOGUE["mobilevit_xs"].source):
        hub.publish(name, WEIGHTS)
    result = CliRunner().invoke(models, ["fetch", "mobilevit_xs", f"hf:{NAME}", "--json"])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert [(r["name"], r["bytes"]) for r in rows] == [("mobilevit_xs", len(WEIGHTS)), (f"hf:{NAME}", len(WEIGHTS))]
    assert all(Path(r["path"]).is_relative_to(cache) for r in rows)
    again = CliRunner().invoke(models, ["fetch", "mobilevit_xs"])
    assert (again.exit_code, again.stdout) == (0, f"mobilevit_xs: {rows[0]['path']} (400.1 KB)\n")
    hub.publish(NAME, WEIGHTS[:-4] + b"\1\1\1\1")
    forced = CliRunner().invoke(models, ["fetch", f"hf:{NAME}", "--force"])
    assert forced.exit_code == 0
    assert obtain(f"hf:{NAME}").read_bytes().endswith(b"\1\1\1\1")
    assert sorted(p.name for p in obtain(f"hf:{NAME}").parent.iterdir()) == ["model.safetensors"]
