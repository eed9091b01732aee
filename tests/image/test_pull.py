"""Pulling from registries that lie, break off, refuse or lead astray: refused, and nothing left."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chainlite.errors import DocklockError, PeerError
from docklock.cli.prune_filters import PruneFilters
from docklock.cli.system import prune_images
from docklock.image import download
from docklock.image.credentials import Login
from docklock.image.download import fetch_blob, lock_file
from docklock.image.progress import Progress
from docklock.image.pull import Pulled, pull_image
from docklock.image.reference import parse_reference
from docklock.image.registry import Repository
from docklock.image.registry_http import Pace, RegistryError, Wire
from docklock.image.store import ImageStore
from docklock.paths import Paths
from tests.image.scripted import Reply, Request, Script, Scripted, serve_layout

LOGIN = Login("alice", "open sesame")
FAST = Pace(connect_s=5, read_s=5, retries_max=2, retry_first_s=0, retry_max_s=1)
AUTH = "authorization"


@pytest.fixture
def files(archives: Any) -> dict[str, bytes]:
    layers = [
        archives.tar((archives.member("a"), os.urandom(100_000))),
        archives.tar((archives.member("b"), b"high")),
    ]
    return archives.layout(layers, gzip.compress)  # type: ignore[no-any-return]


def get_layers(files: dict[str, bytes]) -> list[str]:
    (item,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(files[f"blobs/sha256/{item['digest'][7:]}"])
    return [layer["digest"] for layer in manifest["layers"]]


def pull(paths: Paths, server: Scripted, login: Login | None = None, **more: Any) -> Pulled:
    reference = parse_reference(f"{server.domain}/a/b:1")
    repository = Repository(reference, login, Wire(more.get("pace", FAST)))
    progress = Progress(more.get("file"))
    return pull_image(paths, reference, repository, progress, more.get("platform", ""))


def check_nothing(paths: Paths) -> None:
    assert ImageStore(paths).list_entries() == ()
    for name in ("staging", "layers", "blobs/sha256"):
        folder = Path(paths.images, name)
        assert not folder.exists() or list(folder.iterdir()) == []


def change(script: Script, what: Callable[[Request, Reply], Reply | None]) -> Script:
    """A script whose answers are changed where `what` gives another."""

    def changed(request: Request) -> Reply:
        reply = script(request)
        return what(request, reply) or reply

    return changed


def test_an_image_comes_whole_and_only_once(paths: Paths, files: dict[str, bytes]) -> None:
    with Scripted(serve_layout(files)) as server:
        pulled = pull(paths, server)
        assert pulled.is_new
        image = ImageStore(paths).resolve(f"{server.domain}/a/b:1")
        assert (image.id, image.digest) == (pulled.image_id, pulled.digest)
        assert Path(image.layers[0], "b").read_bytes() == b"high"
        asked = len(server.asked)
        assert not pull(paths, server).is_new
        later = [request.path for request in server.asked[asked:]]
    assert not any(digest in path for digest in get_layers(files) for path in later)
    assert os.listdir(f"{paths.images}/downloads") == []


LIES: dict[str, Callable[[bytes], Reply]] = {
    "other bytes": lambda data: Reply(200, b"x" * len(data)),
    "a byte more": lambda data: Reply(200, data + b"x"),
    "a byte more in chunks": lambda data: Reply(
        200, b"%x\r\n%sx\r\n0\r\n\r\n" % (len(data) + 1, data), (("Transfer-Encoding", "chunked"),)
    ),
    "a byte less": lambda data: Reply(200, data[:-1]),
    "two lengths": lambda data: Reply(
        200, data, (("Content-Length", "1"), ("Content-Length", str(len(data))))
    ),
    "a flipped bit": lambda data: Reply(200, data[:-1] + bytes([data[-1] ^ 1])),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("which", ["config", "layer", "manifest"])
def test_what_is_not_what_the_manifest_says_is_refused(
    paths: Paths, files: dict[str, bytes], which: str, lie: str
) -> None:
    (item,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(files[f"blobs/sha256/{item['digest'][7:]}"])
    kind = {"config": manifest["config"], "layer": manifest["layers"][0], "manifest": item}[which]
    wanted = "1" if which == "manifest" else kind["digest"]

    def spoil(request: Request, reply: Reply) -> Reply | None:
        if not request.path.endswith(f"/{wanted}"):
            return None
        told = LIES[lie](reply.body)
        # A tag may mean any manifest: the digest in the field is what binds it.
        return told._replace(fields=(*told.fields, ("Docker-Content-Digest", kind["digest"])))

    with Scripted(change(serve_layout(files), spoil)) as server, pytest.raises(PeerError):
        pull(paths, server)
    check_nothing(paths)


def test_a_redirect_hands_the_password_to_nobody(paths: Paths, files: dict[str, bytes]) -> None:
    """Layers often lie at another host; it is led to without the header, and back as well."""
    honest = serve_layout(files)
    with Scripted(honest) as blobs:

        def lead(request: Request, reply: Reply) -> Reply | None:
            if AUTH not in request.fields:
                return Reply(401, b"", (("WWW-Authenticate", 'Basic realm="x"'),))
            if "/blobs/" in request.path:
                return Reply(307, b"", (("Location", f"{blobs.url}{request.path}?signed=1"),))
            return None

        with Scripted(change(honest, lead)) as server:
            assert pull(paths, server, LOGIN).is_new
            assert all(AUTH in request.fields for request in server.asked[2:])
        assert len(blobs.asked) == 3
        assert not any(AUTH in request.fields for request in blobs.asked)


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://192.0.2.1/x",
        "http://user:pass@127.0.0.1/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://[::1",
    ],
)
def test_a_redirect_to_where_nobody_should_go_is_refused(
    paths: Paths, files: dict[str, bytes], location: str
) -> None:
    def lead(request: Request, _: Reply) -> Reply | None:
        return Reply(302, b"", (("Location", location),)) if "/blobs/" in request.path else None

    with Scripted(change(serve_layout(files), lead)) as server, pytest.raises(PeerError):
        pull(paths, server)
    check_nothing(paths)


def test_redirects_have_an_end(paths: Paths, files: dict[str, bytes]) -> None:
    def lead(request: Request, _: Reply) -> Reply | None:
        return Reply(302, b"", (("Location", request.path),)) if "/blobs/" in request.path else None

    with Scripted(change(serve_layout(files), lead)) as server:
        with pytest.raises(PeerError, match="more than 5 redirects"):
            pull(paths, server)
        assert len(server.asked) < 12


def test_a_connection_that_ends_in_the_middle_is_gone_on_with(
    paths: Paths, files: dict[str, bytes]
) -> None:
    big = get_layers(files)[0]

    def cut(request: Request, reply: Reply) -> Reply | None:
        if request.path.endswith(big) and "range" not in request.fields:
            return reply._replace(cut=60_000)
        return None

    with Scripted(change(serve_layout(files), cut)) as server:
        assert pull(paths, server).is_new
        ranges = [r.fields.get("range") for r in server.asked if r.path.endswith(big)]
    assert ranges == [None, "bytes=60000-"]


class Halving(io.FileIO):
    """Takes a part of what it is given, as a disk that gets full."""

    def write(self, data: Any, /) -> int:
        return super().write(data[: len(data) // 2 + 1])


def test_what_the_disk_takes_in_parts_is_written_whole(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    digest = get_layers(files)[0]
    data = files[f"blobs/sha256/{digest[7:]}"]
    with Scripted(serve_layout(files)) as server, Halving(tmp_path / "blob", "x+") as file:
        repository = Repository(parse_reference(f"{server.domain}/a/b:1"), None, Wire(FAST))
        download._complete(repository, file, digest, len(data), lambda *_: None)
    assert (tmp_path / "blob").read_bytes() == data


def test_a_killed_pull_s_bytes_are_gone_on_with_and_never_trusted(
    paths: Paths, files: dict[str, bytes]
) -> None:
    big, small = get_layers(files)
    folder = Path(paths.images, "downloads")
    folder.mkdir(parents=True)
    data = files[f"blobs/sha256/{big[7:]}"]
    (folder / big[7:]).write_bytes(data[:1000])
    (folder / small[7:]).write_bytes(b"what a fault or a stranger left")
    with Scripted(serve_layout(files)) as server:
        assert pull(paths, server).is_new
        ranges = [r.fields.get("range") for r in server.asked if r.path.endswith(big)]
    assert ranges == ["bytes=1000-"]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "field", "tries"),
    [(429, "0", 3), (503, "0", 3), (500, "", 3), (429, "3600", 1), (404, "", 1), (403, "", 1)],
)
def test_what_may_pass_is_tried_again_and_the_rest_is_not(
    paths: Paths, files: dict[str, bytes], status: int, field: str, tries: int
) -> None:
    def refuse(request: Request, _: Reply) -> Reply | None:
        if "/manifests/" not in request.path:
            return None
        words = b'{"errors":[{"code":"DENIED","message":"go \\u001b[31maway"}]}'
        return Reply(status, words, (("Retry-After", field),) if field else ())

    with Scripted(change(serve_layout(files), refuse)) as server:
        with pytest.raises(RegistryError) as caught:
            pull(paths, server)
        assert sum("/manifests/" in request.path for request in server.asked) == tries
    assert caught.value.status == status
    assert "denied: go \\x1b[31maway" in str(caught.value)


def test_a_registry_that_is_not_there_is_not_waited_for(paths: Paths) -> None:
    with Scripted(lambda _: Reply()) as gone:
        pass
    pace = FAST._replace(retry_first_s=600, retry_max_s=600)  # a retry would show
    with pytest.raises(RegistryError, match="refused"):
        pull(paths, gone, pace=pace)


def test_one_busy_answer_is_waited_out(paths: Paths, files: dict[str, bytes]) -> None:
    seen: set[str] = set()

    def refuse_first(request: Request, _: Reply) -> Reply | None:
        if request.path == "/v2/" or request.path in seen:
            return None
        seen.add(request.path)
        return Reply(429, b"", (("Retry-After", "0"),))

    with Scripted(change(serve_layout(files), refuse_first)) as server:
        assert pull(paths, server).is_new


def test_a_stalled_registry_is_left(paths: Paths, files: dict[str, bytes]) -> None:
    release = threading.Event()
    big = get_layers(files)[0]

    def stall(request: Request, reply: Reply) -> Reply | None:
        return reply._replace(hold=release) if request.path.endswith(big) else None

    pace = FAST._replace(read_s=0.2)
    with Scripted(change(serve_layout(files), stall)) as server:
        with pytest.raises(RegistryError):
            pull(paths, server, pace=pace)
        release.set()
    check_nothing(paths)


def test_a_trickle_is_no_transfer(paths: Paths, files: dict[str, bytes]) -> None:
    pace = FAST._replace(window_s=0, window_bytes_min=1 << 30)
    with Scripted(serve_layout(files)) as server, pytest.raises(RegistryError, match="bytes in"):
        pull(paths, server, pace=pace)


@pytest.mark.parametrize("kind", ["token", "access_token"])
def test_a_token_is_asked_for_with_the_password_and_used_without(
    paths: Paths, files: dict[str, bytes], kind: str
) -> None:
    token = json.dumps({kind: "t0ken", "expires_in": 60}).encode()
    with Scripted(lambda _: Reply(200, token)) as tokens:
        challenge = (
            f'Bearer realm="{tokens.url}/token?x=y",service="s, t",scope="repository:a/b:pull"'
        )

        def lock(request: Request, _: Reply) -> Reply | None:
            if request.fields.get(AUTH) == "Bearer t0ken":
                return None
            return Reply(401, b"", (("WWW-Authenticate", challenge),))

        with Scripted(change(serve_layout(files), lock)) as server:
            assert pull(paths, server, LOGIN).is_new
            sent = {r.fields.get(AUTH) for r in server.asked}
            assert sent == {None, "Bearer t0ken"}
        (request,) = tokens.asked
        assert request.path == (
            "/token?x=y&service=s%2C+t&scope=repository%3Aa%2Fb%3Apull&account=alice"
        )
        assert request.fields[AUTH] == "Basic YWxpY2U6b3BlbiBzZXNhbWU="


@pytest.mark.parametrize("realm", ["http://192.0.2.1/token", "ftp://127.0.0.1/", "", "/token"])
def test_a_password_goes_to_no_realm_that_is_not_tls(
    paths: Paths, files: dict[str, bytes], realm: str
) -> None:
    def lock(_: Request, __: Reply) -> Reply | None:
        return Reply(401, b"", (("WWW-Authenticate", f'Bearer realm="{realm}"'),))

    with Scripted(change(serve_layout(files), lock)) as server, pytest.raises(PeerError) as caught:
        pull(paths, server, LOGIN)
    assert LOGIN.secret not in str(caught.value) + repr(LOGIN)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"", (("Content-Length", str(1 << 40)),)),
        Reply(200, b"[" * 100_000),
        Reply(200, b"x" * (5 << 20)),
    ],
)
def test_an_endless_or_deep_manifest_is_refused(
    paths: Paths, files: dict[str, bytes], reply: Reply
) -> None:
    def give(request: Request, _: Reply) -> Reply | None:
        return reply if "/manifests/" in request.path else None

    with Scripted(change(serve_layout(files), give)) as server, pytest.raises(PeerError):
        pull(paths, server)
    check_nothing(paths)


def build_index(files: dict[str, bytes], platforms: list[tuple[str, str]]) -> bytes:
    (item,) = json.loads(files["index.json"])["manifests"]
    kind = "application/vnd.oci.image.index.v1+json"
    items = [
        {**item, "platform": {"os": "linux", "architecture": name, "variant": variant}}
        for name, variant in platforms
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": items}).encode()


@pytest.mark.parametrize("platform", ["", "linux/ppc64le"])
def test_of_an_index_the_platform_s_image_is_taken(
    paths: Paths, files: dict[str, bytes], archives: Any, platform: str
) -> None:
    machine = json.loads(archives.config([]))["architecture"]
    index = build_index(files, [("s390x", ""), (machine, "")])

    def give(request: Request, _: Reply) -> Reply | None:
        kind = "application/vnd.oci.image.index.v1+json"
        if request.path.endswith("/manifests/1"):
            return Reply(200, index, (("Content-Type", kind),))
        return None

    with Scripted(change(serve_layout(files), give)) as server:
        if platform:
            with pytest.raises(PeerError, match=f"no image for {platform}; there are: linux/s390x"):
                pull(paths, server, platform=platform)
            return
        pulled = pull(paths, server)
    assert pulled.digest == archives.digest(index)
    assert ImageStore(paths).resolve(f"{server.domain}/a/b:1").digest != pulled.digest


def test_two_pulls_of_one_image_share_the_work(paths: Paths, files: dict[str, bytes]) -> None:
    big = get_layers(files)[0]
    both = threading.Barrier(2)

    def meet(request: Request, _: Reply) -> Reply | None:
        if "/manifests/" in request.path:
            both.wait(20)  # neither goes on before the other has begun
        return None

    found: list[Pulled | DocklockError] = []

    def run(server: Scripted) -> None:
        try:
            found.append(pull(paths, server))
        except DocklockError as error:
            found.append(error)

    with Scripted(change(serve_layout(files), meet)) as server:
        threads = [threading.Thread(target=run, args=(server,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times = sum(request.path.endswith(big) for request in server.asked)
    assert sorted(item.is_new for item in found if isinstance(item, Pulled)) == [False, True]
    assert times == 1
    assert os.listdir(f"{paths.images}/downloads") == []


def test_a_layer_that_is_not_yet_unpacked_keeps_no_other_pull_waiting(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    """Of two images with the same layers in another order, each could wait for the other."""
    digest = get_layers(files)[0]
    data = files[f"blobs/sha256/{digest[7:]}"]
    with Scripted(serve_layout(files)) as server, ThreadPoolExecutor(1) as pool:
        repository = Repository(parse_reference(f"{server.domain}/a/b:1"), None, Wire(FAST))
        words = (repository, str(tmp_path), digest, len(data), lambda *_: None)
        with fetch_blob(*words) as first, pool.submit(fetch_blob, *words).result(30) as second:
            assert first.read() == second.read() == data
        assert sum(request.path.endswith(digest) for request in server.asked) == 1


def test_elsewhere_than_on_a_terminal_each_step_is_a_line(
    paths: Paths, files: dict[str, bytes]
) -> None:
    file = io.StringIO()
    with Scripted(serve_layout(files)) as server:
        pull(paths, server, file=file)
    lines = file.getvalue().splitlines()
    assert lines[0] == "1: Pulling from a/b"
    states = [
        line.partition(": ")[2] for line in lines if line.startswith(get_layers(files)[0][7:19])
    ]
    assert states == [
        "Pulling fs layer",
        "Verifying Checksum",
        "Download complete",
        "Pull complete",
    ]


def test_a_lock_is_one_s_at_a_time_though_its_file_comes_and_goes(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    inside: list[int] = []
    most: list[int] = []

    def take() -> None:
        for turn in range(50):
            with lock_file(path):
                inside.append(turn)
                most.append(len(inside))
                inside.pop()
                if turn % 2:
                    os.unlink(path)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(take) for _ in range(4)]:
            future.result()
    assert set(most) == {1}


def test_pruning_frees_what_killed_pulls_left_and_nothing_that_a_living_one_holds(
    paths: Paths, files: dict[str, bytes]
) -> None:
    """The living one waits for the rest of a layer; it has another open, whose name may go."""
    folder = Path(paths.images, "downloads")
    big, small = get_layers(files)
    waits, release = threading.Event(), threading.Event()

    def hold(request: Request, reply: Reply) -> Reply | None:
        if request.path.endswith(big):
            waits.set()
            return reply._replace(hold=release)
        return None

    with Scripted(change(serve_layout(files), hold)) as server, ThreadPoolExecutor(1) as pool:
        living = pool.submit(pull, paths, server)
        assert waits.wait(30)
        while not ((folder / small[7:]).exists() and (folder / small[7:]).stat().st_size):
            release.wait(0.01)  # its bytes come after its lock
        (folder / ("0" * 64)).write_bytes(b"what a killed pull left")
        (folder / ("0" * 64 + ".lock")).touch()
        held = {path.name for path in folder.iterdir()} - {small[7:], "0" * 64, "0" * 64 + ".lock"}
        prune_images(paths, PruneFilters("image prune", []), is_all=True)
        left = {path.name for path in folder.iterdir()}
        release.set()
        assert living.result().is_new
    assert left - {small[7:]} == held and len(held) == 2
    assert list(folder.iterdir()) == []
