from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_aprqa.domain.errors import ModelUnavailable
from pytest_aprqa.formats import hub, hub_download
from pytest_aprqa.formats.hub import cache_directory, embedded_models, resolve_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
WHOLE = ("config.json", "tokenizer.json", "model.safetensors")
ID = "org/small-model"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HOME", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def add_snapshot(
    cache: Path, *, commit: str = COMMIT, ref: str | None = "main", files: tuple[str, ...] = WHOLE
) -> Path:
    """What huggingface_hub leaves behind: blobs, links to them, and a reference."""
    repository = cache / "models--org--small-model"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir(exist_ok=True)
    for name in files:
        blob = repository / "blobs" / f"{commit[:4]}-{name}"
        blob.write_text("{}")
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    if ref is not None:
        reference = repository / "refs" / ref
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
    return snapshot


def test_snapshot_of_a_branch(cache: Path) -> None:
    snapshot = add_snapshot(cache)
    found = resolve_model(ID)
    assert (found.directory, found.source, found.revision) == (snapshot, "cache", COMMIT)


@pytest.mark.parametrize("ref", ["v1.0", "refs/pr/3", "feature/x"])
def test_snapshot_of_a_tag_or_reference_with_slashes(cache: Path, ref: str) -> None:
    snapshot = add_snapshot(cache, ref=ref)
    assert resolve_model(ID, revision=ref).directory == snapshot


def test_snapshot_of_a_commit_needs_no_reference(cache: Path) -> None:
    add_snapshot(cache)
    other = add_snapshot(cache, commit=OTHER, ref=None)
    assert resolve_model(ID, revision=OTHER).directory == other
    assert resolve_model(ID, revision=OTHER).revision == OTHER


def test_huggingface_hub_finds_the_same_snapshot(cache: Path) -> None:
    from huggingface_hub import try_to_load_from_cache

    snapshot = add_snapshot(cache)
    found = try_to_load_from_cache(ID, "config.json", cache_dir=cache, revision="main")
    assert found == str(snapshot / "config.json")


def test_looking_does_not_import_huggingface_hub(cache: Path) -> None:
    add_snapshot(cache)
    code = (
        "import sys; from pytest_aprqa.formats.hub import resolve_model; "
        f"print(resolve_model({ID!r}).source, 'huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cache", "False"]


def test_nothing_there(cache: Path) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        resolve_model(ID, revision="v2")
    assert str(caught.value) == (
        f"org/small-model at revision v2 is not on this machine: not in {cache}; "
        "run with --aprqa-download, or `hf download org/small-model --revision v2`, "
        "or name a directory with model.local_path or --aprqa-model PATH"
    )


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        (("config.json", "tokenizer.json"), "model.safetensors"),
        (("config.json", "model.safetensors"), "tokenizer.json"),
        (("tokenizer.json", "model.safetensors"), "config.json"),
        (("config.json",), "tokenizer.json, model.safetensors"),
        (("config.json", "tokenizer.json", "pytorch_model.bin"), "model.safetensors"),
    ],
)
def test_incomplete_snapshot(cache: Path, files: tuple[str, ...], lacks: str) -> None:
    snapshot = add_snapshot(cache, files=files)
    with pytest.raises(ModelUnavailable) as caught:
        resolve_model(ID)
    assert f"not on this machine: {snapshot} lacks {lacks}; run with" in str(caught.value)


def test_dangling_link_is_a_missing_file(cache: Path) -> None:
    snapshot = add_snapshot(cache)
    (snapshot / "model.safetensors").resolve().unlink()
    with pytest.raises(ModelUnavailable, match=r"lacks model\.safetensors"):
        resolve_model(ID)


def test_every_shard_of_the_index_is_needed(cache: Path) -> None:
    shards = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    snapshot = add_snapshot(cache, files=("config.json", "tokenizer.json", *shards[:2]))
    index = {"weight_map": {f"layer.{i}": shard for i, shard in enumerate(shards * 2)}}
    (snapshot / hub.INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelUnavailable, match=rf"lacks {shards[2]}; run with"):
        resolve_model(ID)
    (snapshot / shards[2]).write_text("")
    assert resolve_model(ID).directory == snapshot


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_broken_index(cache: Path, text: str) -> None:
    snapshot = add_snapshot(cache, files=("config.json", "tokenizer.json"))
    (snapshot / hub.INDEX).write_text(text)
    with pytest.raises(ModelUnavailable, match=r"not an index of safetensors files"):
        resolve_model(ID)


@pytest.mark.parametrize("name", ["../x", "a/../b", "a/b/c", "", "/abs", "a b", "a--b/c", "x\0"])
def test_names_that_are_no_model_id(cache: Path, name: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"is not a model id; expected organisation/name"):
        resolve_model(name)


@pytest.mark.parametrize("revision", ["", "../../x", "/etc", "a\0"])
def test_names_that_are_no_revision(cache: Path, revision: str) -> None:
    with pytest.raises(ModelUnavailable, match=r"is not a revision"):
        resolve_model(ID, revision=revision)


def test_cache_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache/huggingface/hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/xdg/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert cache_directory() == tmp_path / "hf/hub"
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", "/old")
    assert cache_directory() == Path("/old")
    monkeypatch.setenv("HF_HUB_CACHE", "$HOME/new")
    assert cache_directory() == tmp_path / "new"


def test_local_directory(tmp_path: Path) -> None:
    found = resolve_model("any/thing", local_path=tmp_path)
    assert (found.directory, found.source, found.revision) == (tmp_path, "local", None)


def test_local_directory_that_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=rf"any/thing: {tmp_path}/no does not exist; expect"):
        resolve_model("any/thing", local_path=tmp_path / "no")
    (tmp_path / "file").touch()
    with pytest.raises(ModelUnavailable, match=r"file is not a directory; expected"):
        resolve_model("any/thing", local_path=tmp_path / "file")


def test_unknown_embedded_model() -> None:
    with pytest.raises(ModelUnavailable, match=r"^embedded/nosuch: no such embedded model; embed"):
        resolve_model("embedded/nosuch")
    with pytest.raises(ModelUnavailable, match=r"no such embedded model"):
        resolve_model("embedded/../domain")


def test_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.resources.files", lambda _package: tmp_path)
    for name in ("b-tiny", "a-tiny"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "config.json").touch()
    assert embedded_models() == ("a-tiny", "b-tiny")
    found = resolve_model("embedded/b-tiny")
    assert (found.directory, found.source) == (tmp_path / "models/b-tiny", "embedded")
    with pytest.raises(ModelUnavailable, match=r": embedded/a-tiny, embedded/b-tiny$"):
        resolve_model("embedded/c-tiny")


def _snapshot_download(monkeypatch: pytest.MonkeyPatch, stand_in: Callable[..., str]) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", stand_in)


def test_download_only_when_asked_and_needed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def stand_in(model_id: str, **settings: Any) -> str:
        asked.append({"model_id": model_id, **settings})
        return str(add_snapshot(cache))

    _snapshot_download(monkeypatch, stand_in)
    with pytest.raises(ModelUnavailable, match=r"--aprqa-download"):
        resolve_model(ID)
    assert not asked
    lines: list[str] = []
    found = resolve_model(ID, download=True, progress=lines.append)
    assert (found.source, found.revision) == ("download", COMMIT)
    assert (asked[0]["model_id"], asked[0]["revision"]) == (ID, "main")
    assert asked[0]["cache_dir"] == cache
    assert lines == [
        f"downloading {ID} at revision main to {cache}",
        f"downloaded {ID} at revision main",
    ]
    assert resolve_model(ID, download=True).source == "cache"
    assert len(asked) == 1


def test_no_pickle_and_no_code_is_downloaded() -> None:
    import huggingface_hub.utils

    utils: Any = huggingface_hub.utils
    names = [
        "config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json",
        "tokenizer.model", "chat_template.jinja", "merges.txt",
        "pytorch_model.bin", "model.pt", "modeling_x.py", "training.pkl", "model.gguf", "x.onnx",
    ]  # fmt: skip
    wanted = utils.filter_repo_objects(names, allow_patterns=list(hub_download.ALLOW_PATTERNS))
    assert list(wanted) == names[:6]


def test_download_without_safetensors(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_in(_model_id: str, **_settings: Any) -> str:
        return str(add_snapshot(cache, files=("config.json", "tokenizer.json")))

    _snapshot_download(monkeypatch, stand_in)
    with pytest.raises(ModelUnavailable, match=r"downloaded, but has no model\.safetensors; only"):
        resolve_model(ID, download=True)


def test_progress_bar_gives_lines_and_draws_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with hub_download._reporting_bar(ID, lines.append)(total=3, desc="Fetching 3 files") as bar:
        bar.update(2)
        bar.refresh()
    assert f"{ID}: Fetching 3 files 2/3" in lines
    assert capfd.readouterr() == ("", "")


FILES = dict.fromkeys((*WHOLE, "pytorch_model.bin", "modeling.py"), b"{}")


class _FakeHub(BaseHTTPRequestHandler):
    """The few answers of the Hub that a snapshot download asks for."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        for model, status, code in (
            ("org/gone", 404, "RepoNotFound"),
            ("org/gated", 403, "GatedRepo"),
            ("org/refused", 403, None),
            ("org/broken", 500, None),
        ):
            if model in path:
                self._answer(status, b"{}", {"X-Error-Code": code} if code else {})
                return
        if path.startswith(f"/api/models/{ID}/revision/nosuch"):
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith(f"/api/models/{ID}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(text), "oid": f"{i:040x}"}
                for i, (name, text) in enumerate(FILES.items())
            ]
            self._answer(200, json.dumps(tree).encode(), {})
        elif path.startswith(f"/api/models/{ID}"):
            siblings = [{"rfilename": name} for name in FILES]
            info = {"id": ID, "modelId": ID, "sha": COMMIT, "siblings": siblings}
            self._answer(200, json.dumps(info).encode(), {})
        elif (name := path.rsplit("/", 1)[-1]) in FILES and "/resolve/" in path:
            etag = f'"{list(FILES).index(name):040x}"'
            self._answer(200, FILES[name], {"ETag": etag, "X-Repo-Commit": COMMIT})
        else:
            self._answer(404, b"{}", {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _FakeHub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def download(
    endpoint: str, cache: Path, *, model_id: str = ID, revision: str = "main", **environ: str
) -> list[str]:
    """Resolve with `download` in a process of its own: huggingface_hub reads its endpoint once."""
    code = f"""
from pytest_aprqa.formats.hub import resolve_model, ModelUnavailable
try:
    found = resolve_model({model_id!r}, revision={revision!r}, download=True, progress=print)
    print(found.source, found.revision, sorted(p.name for p in found.directory.iterdir()))
except ModelUnavailable as error:
    print(error)
"""
    settings = {"HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1"}
    proxies = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **settings, **proxies, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def test_real_download_from_a_hub(endpoint: str, tmp_path: Path) -> None:
    lines = download(endpoint, tmp_path)
    assert lines[0] == f"downloading {ID} at revision main to {tmp_path}"
    assert lines[-1] == f"download {COMMIT} {sorted(WHOLE)}"
    lines = download("http://127.0.0.1:9", tmp_path)
    assert lines == [f"cache {COMMIT} {sorted(WHOLE)}"]


@pytest.mark.parametrize(
    ("model_id", "revision", "message"),
    [
        ("org/gone", "main", "no such repository, or private; check the id, or log in with"),
        ("org/gated", "main", "gated; accept its terms at https://huggingface.co/org/gated and"),
        ("org/refused", "main", "access refused (HTTP 403); log in with `hf auth login`"),
        ("org/broken", "main", "the Hub answered HTTP 500; try again later"),
        (ID, "nosuch", "the repository has no such revision; expected a branch, a tag or a"),
    ],
)
def test_refusals_of_the_hub_are_one_clear_line(
    endpoint: str, tmp_path: Path, model_id: str, revision: str, message: str
) -> None:
    last = download(endpoint, tmp_path, model_id=model_id, revision=revision)[-1]
    assert last.startswith(f"{model_id} at revision {revision}: {message}")


def test_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    lines = download("http://127.0.0.1:9", tmp_path)
    assert lines[-1].startswith(f"{ID} at revision main: the Hub cannot be reached: ")
    assert len(lines) == 2


def test_hub_switched_off(endpoint: str, tmp_path: Path) -> None:
    last = download(endpoint, tmp_path, HF_HUB_OFFLINE="1")[-1]
    assert last.endswith("the Hub is switched off by HF_HUB_OFFLINE; unset it to download")
