"""`docklock cp`: files into and out of containers, running or not; Docker's rules and words.

Not here: what goes where (docklock.copy.rules), how it is read and written (docklock.copy).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from chainlite.errors import About, SpecError, StateError
from docklock.cli import options
from docklock.cli.options import Command, UsageError, check_count, flag
from docklock.copy.read import PlaceStream
from docklock.copy.root import ContainerRoot
from docklock.copy.rules import Target, Wanted, find_source, find_target, parse_path
from docklock.copy.write import Rules, Writer
from docklock.evidence.operations import record_operation
from docklock.image.stream import CHUNK_BYTES, Unpacked
from docklock.image.tar import TarReader
from docklock.lifecycle import find_container

if TYPE_CHECKING:
    from docklock.image.stream import Readable
    from docklock.paths import Paths

STREAM = "-"
OWNER_INSIDE = (0, 0)
CP = Command(
    "cp",
    "[OPTIONS] CONTAINER:SRC DEST|-  or  SRC|- CONTAINER:DEST",
    "Copy files and directories between a container and this host.",
    (
        flag("-a", "--archive", help="keep owners, and all rights, as they are at the source"),
        flag("-L", "--follow-link", help="follow a symbolic link that SRC is"),
        flag("-q", "--quiet", help="accepted; nothing is shown"),
    ),
    examples=(
        "docklock cp web:/etc/hostname .",
        "docklock cp -a site web:/srv",
        "docklock cp web:/srv - | tar -t",
    ),
)


class End(NamedTuple):
    """One end of a copy; `container` is empty for this host's."""

    container: str
    path: str


def run_cp(argv: list[str], paths: Paths) -> int:
    """`docklock cp`: 0 once all is copied; what was left out is said on stderr."""
    values, words = options.parse(CP, argv)
    check_count(CP, words, 2, 2)
    source, target = parse_end(words[0]), parse_end(words[1])
    if bool(source.container) == bool(target.container):
        raise UsageError(
            "docklock cp: copying between containers is not supported"
            if source.container
            else "docklock cp: must specify at least one container source"
        )
    if target == End("", STREAM) and sys.stdout.isatty():
        raise SpecError("docklock cp: - writes a tar, and stdout is a terminal: redirect it")
    container_id = find_container(paths, source.container or target.container)
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with About(container_id), ContainerRoot(paths, container_id) as root:
            copy = _Copy(paths, container_id, values)
            if source.path == STREAM:
                copy.take_stream(root, target.path)
            elif target.path == STREAM:
                copy.give_stream(root, source.path)
            elif target.container:
                copy.take(here, source.path, root, target.path)
            else:
                copy.give(root, source.path, here, target.path)
    finally:
        os.close(here)
    return 0


def parse_end(word: str) -> End:
    """Docker's rule: what begins with / or . or has no colon is a path of this host."""
    container, colon, path = word.partition(":")
    if word.startswith(("/", ".")) or not colon:
        return End("", word)
    if not container or not path:
        raise UsageError(f"docklock cp: {word}: give CONTAINER:PATH")
    return End(container, path)


class _Copy:
    """One copy of one container: roots are descriptors, paths as the user typed them."""

    def __init__(self, paths: Paths, container_id: str, values: dict[str, Any]) -> None:
        self._paths, self._id = paths, container_id
        self._is_exact, self._follow = values["archive"], values["follow_link"]

    def take(self, here: int, source: str, root: int, target: str) -> None:
        """From the host into the container."""
        stream, to = self._open(
            here, parse_path(source, os.getcwd()), root, parse_path(target, "/")
        )
        try:
            self._record("in")
            self._write_inside(root, to, stream)
        finally:
            stream.close()

    def give(self, root: int, source: str, here: int, target: str) -> None:
        """From the container to the host."""
        stream, to = self._open(
            root, parse_path(source, "/"), here, parse_path(target, os.getcwd())
        )
        try:
            self._record("out")
            owner = None if self._is_exact else (os.geteuid(), os.getegid())
            _write(here, to, stream, Rules(owner, has_rights=self._is_exact))
        finally:
            stream.close()

    def take_stream(self, root: int, target: str) -> None:
        """A tar from stdin into a directory of the container."""
        wanted = parse_path(target, "/")._replace(is_directory=True)
        to = find_target(root, wanted, Wanted("/", is_contents=True, is_directory=False))
        self._record("in")
        self._write_inside(root, to, Unpacked(sys.stdin.buffer, "stdin"))

    def give_stream(self, root: int, source: str) -> None:
        """What is in the container as a tar to stdout."""
        wanted = parse_path(source, "/")
        place = find_source(root, wanted, follow=self._follow)
        stream = PlaceStream(place, b"." if wanted.is_contents else wanted.name, _note)
        try:
            self._record("out")
            while data := stream.read(CHUNK_BYTES):
                sys.stdout.buffer.write(data)
        finally:
            stream.close()

    def _write_inside(self, root: int, to: Target, stream: Readable) -> None:
        _write(root, to, stream, Rules(None if self._is_exact else OWNER_INSIDE, has_rights=True))

    def _open(
        self, from_root: int, source: Wanted, to_root: int, target: Wanted
    ) -> tuple[PlaceStream, Target]:
        place = find_source(from_root, source, follow=self._follow)
        try:
            looked = source._replace(is_directory=place.is_directory)
            to = find_target(to_root, target, looked)
        except StateError:
            os.close(place.parent)
            raise
        return PlaceStream(place, to.name, _note), to

    def _record(self, direction: str) -> None:
        record_operation(self._paths, "cp", self._id, (("direction", direction),))


def _write(root: int, to: Target, stream: Readable, rules: Rules) -> None:
    writer = Writer(root, to, TarReader(stream, "cp"), rules)
    writer.run()
    for text in writer.left_out:
        _note(text)


def _note(text: str) -> None:
    print(f"docklock: {text}", file=sys.stderr)
