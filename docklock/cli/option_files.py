"""The files of run, create and exec: --env-file and --label-file are read, --cidfile is written.

Loaded when one is given. Source: docker/cli opts/file.go (one NAME=VALUE a line; blank lines and
those that begin with # say nothing; only space before a name is trimmed).
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError

FILE_BYTES_MAX = 8 << 20
LINE_BYTES_MAX = 1 << 20
_MARK = b"\xef\xbb\xbf"  # the byte order mark that some editors write


def read_pairs(option: str, path: str) -> list[str]:
    """The lines NAME[=VALUE] of a file, in its order. SpecError with the line's number."""
    found = []
    for number, raw in enumerate(_read(option, path).split(b"\n"), 1):
        where = f"{option} {path}: line {number}"
        if len(raw) > LINE_BYTES_MAX:
            raise SpecError(f"{where}: longer than {LINE_BYTES_MAX} bytes")
        try:
            line = raw.decode().removesuffix("\r").lstrip()
        except UnicodeDecodeError:
            raise SpecError(f"{where}: contains invalid utf8 bytes") from None
        if not line or line.startswith("#"):
            continue
        name = line.partition("=")[0]
        if not name:
            raise SpecError(f"{where}: no variable name")
        if any(letter.isspace() for letter in name):
            raise SpecError(f"{where}: variable {name!r} contains whitespaces")
        if "\0" in line:
            raise SpecError(f"{where}: contains a NUL")
        found.append(line)
    return found


def _read(option: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SpecError(f"{option} {path}: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise SpecError(f"{option} {path}: more than {FILE_BYTES_MAX} bytes")
    return data.removeprefix(_MARK)


class IdFile:
    """--cidfile: taken before the container is made, so that two commands never share one.

    As a context: the file keeps the id, with no line end, as Docker's; none if it raises.
    """

    def __init__(self, path: str, container_id: str) -> None:
        self._path = path
        self._id = container_id
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise SpecError(
                "container ID file found, make sure the other container isn't running"
                f" or delete {path}"
            ) from None
        except OSError as error:
            raise SpecError(f"--cidfile {path}: {error.strerror}") from None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            os.write(self._fd, self._id.encode())
        else:
            os.unlink(self._path)
        os.close(self._fd)
