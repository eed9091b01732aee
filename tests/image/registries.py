"""Debian's docker-registry as a process of one's own, on a free port, with its own directory.

Images are put into it with the standard library, which shares no code with docklock's push.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Self

import pytest

PROGRAM = "/usr/bin/docker-registry"
USER, PASSWORD = "alice", "open sesame"
# bcrypt of PASSWORD at the lowest cost.
HTPASSWD = f"{USER}:$2b$05$dockTOCKdockTOCKdockTOyozkWqIGHMrrq69D0VNVDCdBuKyka4i\n"
BASIC = "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def need_program() -> None:
    """Skips at home where the package is missing; CI may not skip."""
    if not Path(PROGRAM).exists() and os.environ.get("CI") != "true":
        pytest.skip("needs the Debian package docker-registry")


class Registry:
    """A running registry; `domain` is what its images' names begin with."""

    def __init__(
        self,
        directory: Path,
        *,
        is_locked: bool = False,
        tls: Path | None = None,
        authority: Path | None = None,
    ) -> None:
        """`is_locked`: USER and PASSWORD are needed. `tls`: a folder with cert.pem and key.pem,
        which `authority` has signed."""
        directory.mkdir(parents=True)
        self.is_locked, self.tls, self.authority = is_locked, tls, authority
        lines = [
            "version: 0.1",
            "log: {level: info}",
            f"storage: {{filesystem: {{rootdirectory: {directory}/data}}}}",
        ]
        http = {"addr": "127.0.0.1:0"}
        if tls:
            pair = {"certificate": f"{tls}/cert.pem", "key": f"{tls}/key.pem"}
            http |= {"tls": pair}  # type: ignore[dict-item]
        lines.append(f"http: {json.dumps(http)}")
        if is_locked:
            (directory / "htpasswd").write_text(HTPASSWD)
            lines.append(f"auth: {{htpasswd: {{realm: locked, path: {directory}/htpasswd}}}}")
        (directory / "config.yml").write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [PROGRAM, "serve", str(directory / "config.yml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.port = self._wait_for_port()
        self.domain = f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def request(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/octet-stream"
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, fields in small letters, body)."""
        if self.tls:
            context = ssl.create_default_context(cafile=str(self.authority))
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
        fields = {"Content-Type": kind} | ({"Authorization": BASIC} if self.is_locked else {})
        connection.request(method, path, body, fields)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, data

    def put_layout(self, files: dict[str, bytes], name: str, tag: str = "latest") -> str:
        """Puts an OCI layout's one image, as conftest builds it; the manifest's digest."""
        (item,) = json.loads(files["index.json"])["manifests"]
        for path, data in files.items():
            if path.startswith("blobs/") and not path.endswith(item["digest"][7:]):
                self.put_blob(name, f"sha256:{path.rpartition('/')[2]}", data)
        data = files[f"blobs/sha256/{item['digest'][7:]}"]
        return self.put_manifest(name, tag, data, item["mediaType"])

    def put_blob(self, name: str, digest: str, data: bytes) -> None:
        status, fields, _ = self.request("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202
        path = re.sub(r"^https?://[^/]*", "", fields["location"])
        joint = "&" if "?" in path else "?"
        assert self.request("PUT", f"{path}{joint}digest={digest}", data)[0] == 201

    def put_manifest(self, name: str, tag: str, data: bytes, kind: str) -> str:
        status, fields, text = self.request("PUT", f"/v2/{name}/manifests/{tag}", data, kind)
        assert status == 201, text
        return fields["docker-content-digest"]

    def _wait_for_port(self) -> int:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(rb"listening on 127\.0\.0\.1:(\d+)", line)
            if found:
                return int(found[1])
        raise AssertionError("docker-registry ended before it listened")
