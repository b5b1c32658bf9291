"""A Hub on loopback: a real HTTP server that speaks the endpoints which huggingface_hub uses, and can fail on demand.

What it holds is kept in memory. It knows model, dataset and space repos, commits (one chain, `main`), tags, LFS
objects, tokens, private repos, and refuses a commit whose parent is no longer the head. It has no branches, pull
requests, Xet, gates, quotas or card pages.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_" + "loopback" * 4
READER = "hf_" + "onlyread" * 4
STRANGER = "hf_" + "stranger" * 4
RIGHTS = {TOKEN: ("someone", {"someone", "org"}), READER: ("reader", set()), STRANGER: ("other", {"other"})}
"""Token -> user, and the namespaces that the user may write to."""
LARGE = (".safetensors", ".bin", ".png", ".pt")
"""Endings that go through LFS."""

Answer = tuple[int, Any, dict[str, str]]


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """What git calls it: of a large one its pointer."""
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        blob = pointer.encode() if self.large else self.content
        return hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()


@dataclass
class Repo:
    """A repo: its commits, newest last, and its tags."""

    kind: str
    private: bool = False
    commits: list[tuple[str, str, dict[str, File]]] = field(default_factory=list)
    """Id, title, files."""
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, title: str, files: dict[str, File]) -> str:
        content = json.dumps([len(self.commits), title, {path: file.oid for path, file in files.items()}])
        self.commits.append((hashlib.sha1(content.encode()).hexdigest(), title, files))
        return self.head

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, File]:
        """Of the newest commit."""
        return self.commits[-1][2]

    def at(self, revision: str) -> tuple[str, dict[str, File]] | None:
        oid = {"main": self.head, **self.tags}.get(revision, revision)
        return next(((found, files) for found, _, files in self.commits if found == oid), None)


@dataclass
class Fault:
    """The next `times` requests whose ``METHOD /path`` matches are answered otherwise, or not at all."""

    pattern: str
    status: int | None
    """None: the connection is dropped."""
    times: int
    headers: dict[str, str]
    late: bool
    """Whether what was asked is done first, and only its answer is lost."""
    meanwhile: Callable[[], object] | None = None
    """What somebody else does before the request is answered as ever."""
    body: bytes | None = None
    """What is answered in place of JSON."""
    cut: bool = False
    """Whether the answer breaks off in its middle."""


@dataclass(frozen=True)
class Received:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Hub:
    """The server; a context that runs it."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.received: list[Received] = []
        self.call: Callable[..., Any] = print
        """What asks it, in another process: see `hub_client.py`."""
        self.home = Path()
        """Where that process keeps what it fetches."""
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(
        self,
        pattern: str,
        status: int | None,
        times: int = 1,
        *,
        late: bool = False,
        body: bytes | None = None,
        cut: bool = False,
        **headers: str,
    ) -> None:
        """Answer otherwise from now on; ``Retry_After="3"`` is a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(pattern, status, times, named, late, None, body, cut))

    def before(self, pattern: str, meanwhile: Callable[[], object]) -> None:
        """Let somebody else do something before such a request is answered."""
        self.faults.append(Fault(pattern, None, 1, {}, False, meanwhile))

    def clear(self) -> None:
        """Forget faults and what was received."""
        self.faults.clear()
        self.received.clear()

    def repo(self, repo_id: str, kind: str = "model") -> Repo:
        """A repo that is there."""
        return self.repos[kind, repo_id]

    def put(self, repo_id: str, files: dict[str, bytes], kind: str = "model", *, private: bool = False) -> Repo:
        """A repo with these files, past all checks."""
        repo = self.repos.setdefault((kind, repo_id), Repo(kind, private))
        repo.add("put", {path: File(content, path.endswith(LARGE)) for path, content in files.items()})
        return repo

    def asked(self, pattern: str) -> list[Received]:
        """The requests whose ``METHOD /path`` matches."""
        return [one for one in self.received if re.search(pattern, f"{one.method} {one.path}")]

    def counts(self) -> Counter[str]:
        """How often each ``METHOD /path`` was asked for."""
        return Counter(f"{one.method} {one.path}" for one in self.received)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any method."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        request = Received(self.command, self.path, dict(self.headers), body)
        what = f"{self.command} {self.path}"
        with self.hub.lock:
            self.hub.received.append(request)
            fault = next((one for one in self.hub.faults if one.times and re.search(one.pattern, what)), None)
            if fault is not None:
                fault.times -= 1
                if fault.meanwhile is not None:
                    fault.meanwhile()
                    fault = None
            answer = self._answer(body) if fault is None or fault.late or fault.cut else None
        if fault is not None and fault.status is None and not fault.cut:
            self.close_connection = True  # nothing is sent: the client sees a connection that ends
            return
        if fault is not None and not fault.cut:
            content: Any = {"error": "made to fail"} if fault.body is None else fault.body
            answer = (fault.status or 500, content, fault.headers)
        assert answer is not None
        self._send(*answer, cut=fault is not None and fault.cut)

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _send(self, status: int, content: Any, headers: dict[str, str], *, cut: bool = False) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if cut:
            self.close_connection = True
            body = body[: len(body) // 2]
        if self.command != "HEAD":
            self.wfile.write(body)

    # What is asked for

    def _answer(self, body: bytes) -> Answer:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in RIGHTS:
            return 401, {"error": "Invalid credentials in Authorization header"}, {}
        self.user, self.may_write = RIGHTS.get(token, (None, set()))
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        for pattern, method in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                self.query = query
                return method(self, body, **found.groupdict())
        return 404, {"error": f"the loopback Hub does not know {self.command} {path}"}, {}

    def _whoami(self, body: bytes) -> Answer:
        if self.user is None:
            return 401, {"error": "Invalid username or password."}, {}
        return 200, {"type": "user", "name": self.user, "orgs": [{"name": name} for name in self.may_write]}, {}

    def _validate_yaml(self, body: bytes) -> Answer:
        found = re.match(r"---\n(.*?)\n---\n", json.loads(body)["content"], re.DOTALL)
        errors = [] if found and isinstance(yaml.safe_load(found[1]), dict) else [{"message": "no metadata"}]
        return (400 if errors else 200), {"errors": errors, "warnings": []}, {}

    def _create(self, body: bytes) -> Answer:
        asked = json.loads(body)
        owner, kind = asked["organization"] or self.user, asked.get("type", "model")
        name = f"{owner}/{asked['name']}"
        if self.user is None:
            return 401, {"error": "Invalid username or password."}, {}
        if owner not in self.may_write:
            return 403, {"error": f"You don't have the rights to create a model under the namespace {owner}"}, {}
        url = f"{self.hub.url}/{'' if kind == 'model' else kind + 's/'}{name}"
        if (kind, name) in self.hub.repos:
            return 409, {"error": f"You already created this {kind} repo", "url": url}, {}
        repo = self.hub.repos[kind, name] = Repo(kind, asked.get("visibility") == "private")
        attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
        repo.add("initial commit", {".gitattributes": File(attributes, False)})
        return 200, {"url": url, "name": name, "id": repo.head}, {}

    def _found(self, kinds: str, name: str, *, write: bool = False) -> Repo | Answer:
        repo = self.hub.repos.get((kinds.rstrip("s"), name))
        may = name.partition("/")[0] in self.may_write
        if repo is None or (repo.private and not may):
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            return (401 if self.user is None else 404), {"error": "Repository not found"}, headers
        if write and not may:
            return (401 if self.user is None else 403), {"error": "You have no write access to this repo"}, {}
        return repo

    def _at(self, kinds: str, name: str, revision: str) -> tuple[str, dict[str, File]] | Answer:
        repo = self._found(kinds, name)
        if isinstance(repo, tuple):
            return repo
        found = repo.at(revision)
        if found is None:
            return 404, {"error": f"Invalid rev id: {revision}"}, {"X-Error-Code": "RevisionNotFound"}
        return found

    def _info(self, body: bytes, kinds: str, name: str, revision: str | None = None) -> Answer:
        found = self._at(kinds, name, revision or "main")
        if len(found) == 3:
            return found
        private = self.hub.repos[kinds.rstrip("s"), name].private
        siblings = [{"rfilename": path} for path in found[1]]
        return 200, {"_id": "1", "id": name, "sha": found[0], "private": private, "siblings": siblings, "tags": []}, {}

    def _tree(self, body: bytes, kinds: str, name: str, revision: str) -> Answer:
        found = self._at(kinds, name, revision)
        if len(found) == 3:
            return found
        return 200, [_entry(path, file) for path, file in found[1].items()], {}

    def _paths(self, body: bytes, kinds: str, name: str, revision: str) -> Answer:
        found = self._at(kinds, name, revision)
        if len(found) == 3:
            return found
        wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        return 200, [_entry(path, file) for path, file in found[1].items() if path in wanted], {}

    def _refs(self, body: bytes, kinds: str, name: str) -> Answer:
        repo = self._found(kinds, name)
        if isinstance(repo, tuple):
            return repo
        tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid} for tag, oid in repo.tags.items()]
        branches = [{"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}]
        return 200, {"branches": branches, "converts": [], "tags": tags}, {}

    def _preupload(self, body: bytes, kinds: str, name: str, revision: str) -> Answer:
        repo = self._found(kinds, name, write=True)
        if isinstance(repo, tuple):
            return repo
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": None if (there := repo.files.get(file["path"])) is None else
                       there.sha256 if there.large else there.oid,
            }
            for file in json.loads(body)["files"]
        ]  # fmt: skip
        return 200, {"files": files}, {}

    def _batch(self, body: bytes, name: str) -> Answer:
        repo = self._found("models", name, write=True)
        if isinstance(repo, tuple):
            return repo
        objects = []
        for one in json.loads(body)["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"},
                "verify": {"href": f"{self.hub.url}/lfs/verify"},
            }
            objects.append({**one, **({} if one["oid"] in self.hub.objects else {"actions": actions})})
        return 200, {"transfer": "basic", "objects": objects}, {}

    def _upload(self, body: bytes, oid: str) -> Answer:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "the content is not what was announced"}, {}
        self.hub.objects[oid] = body
        return 200, {}, {}

    def _verify(self, body: bytes) -> Answer:
        asked = json.loads(body)
        there = self.hub.objects.get(asked["oid"])
        return (200 if there is not None and len(there) == asked["size"] else 404), {}, {}

    def _commit(self, body: bytes, kinds: str, name: str, revision: str) -> Answer:
        repo = self._found(kinds, name, write=True)
        if isinstance(repo, tuple):
            return repo
        header, *operations = (json.loads(line) for line in body.splitlines())
        parent = header["value"].get("parentCommit")
        if parent is not None and parent != repo.head:
            return 412, {"error": "A commit has happened since. Please refresh and try again."}, {}
        files = dict(repo.files)
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif operation["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return 400, {"error": f"LFS object {value['oid']} was not uploaded"}, {}
                files[value["path"]] = File(self.hub.objects[value["oid"]], True)
            elif files.pop(value["path"], None) is None:
                return 404, {"error": "A file with this name doesn't exist"}, {"X-Error-Code": "EntryNotFound"}
        oid = repo.add(header["value"]["summary"], files)
        return 200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"}, {}

    def _tag(self, body: bytes, kinds: str, name: str, revision: str) -> Answer:
        repo = self._found(kinds, name, write=True)
        if isinstance(repo, tuple):
            return repo
        tag, found = json.loads(body)["tag"], repo.at(revision)
        if tag in repo.tags:
            return 409, {"error": "Tag reference exists already"}, {}
        if found is None:
            return 404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"}
        repo.tags[tag] = found[0]
        return 200, {}, {}

    def _resolve(self, body: bytes, name: str, revision: str, path: str, kinds: str | None = None) -> Answer:
        found = self._at(kinds or "models", name, revision)
        if len(found) == 3:
            return found
        oid, files = found
        file = files.get(path)
        if file is None:
            return 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid}
        etag = file.sha256 if file.large else file.oid
        linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(file.content))} if file.large else {}
        return 200, file.content, {"ETag": f'"{etag}"', "X-Repo-Commit": oid, **linked}


def _entry(path: str, file: File) -> dict[str, Any]:
    size = len(file.content)
    lfs = {"lfs": {"oid": file.sha256, "size": size, "pointerSize": 130}} if file.large else {}
    return {"type": "file", "path": path, "size": size, "oid": file.oid, **lfs}


_REPO = r"/api/(?P<kinds>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
ROUTES: list[tuple[str, Callable[..., Answer]]] = [
    (r"GET /api/whoami-v2", _Handler._whoami),
    (r"POST /api/validate-yaml", _Handler._validate_yaml),
    (r"POST /api/repos/create", _Handler._create),
    (rf"GET {_REPO}", _Handler._info),
    (rf"GET {_REPO}/revision/(?P<revision>.+)", _Handler._info),
    (rf"GET {_REPO}/tree/(?P<revision>[^/]+)", _Handler._tree),
    (rf"POST {_REPO}/paths-info/(?P<revision>.+)", _Handler._paths),
    (rf"GET {_REPO}/refs", _Handler._refs),
    (rf"POST {_REPO}/preupload/(?P<revision>.+)", _Handler._preupload),
    (rf"POST {_REPO}/commit/(?P<revision>.+)", _Handler._commit),
    (rf"POST {_REPO}/tag/(?P<revision>.+)", _Handler._tag),
    (r"POST /(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler._batch),
    (r"PUT /lfs/(?P<oid>\w+)", _Handler._upload),
    (r"POST /lfs/verify", _Handler._verify),
    (r"(?:GET|HEAD) /(?:(?P<kinds>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
     _Handler._resolve),
]
