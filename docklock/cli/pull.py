"""`docklock pull`, and what `run` and `create` do where an image is not here. Docker's words.

Not here: pulling itself (docklock.image.pull), passwords (docklock.image.credentials).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError, SpecError
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, text

if TYPE_CHECKING:
    from typing import TextIO

    from docklock.image.pull import Pulled
    from docklock.image.reference import Reference
    from docklock.image.store import Image
    from docklock.paths import Paths

PULL = Command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Fetch an image from a registry, for example: docklock pull debian:12",
    (
        flag("-q", "--quiet", help="print the image's name alone"),
        text("--platform", help="of an image for several, this one's", metavar="OS/ARCH[/VARIANT]"),
    ),
    examples=("docklock pull debian:12",),
)


def run_pull(argv: list[str], paths: Paths) -> int:
    """`docklock pull`: Docker's lines; the last is the image's full name."""
    from docklock.image.reference import parse_reference

    values, words = options.parse(PULL, argv)
    check_count(PULL, words, 1, 1)
    reference = parse_reference(words[0])
    is_quiet = values["quiet"]
    if not is_quiet and not reference.digest and ":" not in words[0].rpartition("/")[2]:
        print(f"Using default tag: {reference.tag}", flush=True)
    pull(paths, reference, None if is_quiet else sys.stdout, values["platform"] or "")
    print(reference.text)
    return 0


def pull(paths: Paths, reference: Reference, file: TextIO | None, platform: str = "") -> Pulled:
    """Pulls, and tells `file` of it."""
    from docklock.image.credentials import find_login
    from docklock.image.progress import Progress
    from docklock.image.pull import pull_image
    from docklock.image.registry import Repository

    _check_platform(platform)
    domain = reference.name.partition("/")[0]
    repository = Repository(reference, find_login(domain))
    progress = Progress(file)
    pulled = pull_image(paths, reference, repository, progress, platform)
    progress.say(f"Digest: {pulled.digest}")
    news = "Downloaded newer image" if pulled.is_new else "Image is up to date"
    progress.say(f"Status: {news} for {reference.familiar}")
    return pulled


def pull_for_run(paths: Paths, name: str, *, is_asked: bool, is_quiet: bool) -> Image:
    """What `run` does where an image is not here, or was asked for anew. SpecError, StateError."""
    from docklock.image.reference import parse_reference
    from docklock.image.store import ImageStore, NoSuchImage, suggest_name

    if name.startswith("sha256:"):
        raise NoSuchImage(f"No such image: {name}: an ID cannot be pulled")
    reference = parse_reference(name)
    if not is_asked:
        print(f"Unable to find image '{reference.familiar}' locally", file=sys.stderr, flush=True)
    try:
        pull(paths, reference, None if is_quiet else sys.stderr)
    except DocklockError:
        hint = suggest_name(name, ImageStore(paths).list_entries())
        if hint:
            print(f"docklock: {name} is no image that is here{hint}", file=sys.stderr)
        raise
    return ImageStore(paths).resolve(reference.text)


def _check_platform(platform: str) -> None:
    parts = platform.split("/")
    if platform and (not 2 <= len(parts) <= 3 or not all(parts)):
        raise SpecError(f"--platform {platform}: expected OS/ARCH or OS/ARCH/VARIANT")
