"""`docklock pull`, and what `run` and `create` do where an image is not here. Docker's words.

Not here: pulling itself (docklock.image.pull), passwords (docklock.image.credentials).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from chainlite.errors import DocklockError, SpecError, StateError
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, text

if TYPE_CHECKING:
    from typing import TextIO

    from docklock.image.progress import Progress
    from docklock.image.reference import Reference
    from docklock.image.registry import Repository
    from docklock.image.store import Image
    from docklock.paths import Paths

PULL = Command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Fetch an image from a registry, for example: docklock pull debian:12",
    (
        flag("-a", "--all-tags", help="all tags of the name"),
        flag("-q", "--quiet", help="print the image's name alone"),
        text("--platform", help="of an image for several, this one's", metavar="OS/ARCH[/VARIANT]"),
    ),
    examples=(
        "docklock pull debian:12",
        "docklock pull -a registry.example.org:5000/team/app",
    ),
)

NEWS = {True: "Downloaded newer image", False: "Image is up to date"}


def run_pull(argv: list[str], paths: Paths) -> int:
    """`docklock pull`: Docker's lines; the last is the image's full name."""
    from docklock.image.reference import parse_reference

    values, words = options.parse(PULL, argv)
    check_count(PULL, words, 1, 1)
    reference = parse_reference(words[0])
    file = None if values["quiet"] else sys.stdout
    has_tag = bool(reference.digest) or ":" in words[0].rpartition("/")[2]
    if values["all_tags"]:
        if has_tag:
            raise SpecError("tag can't be used with --all-tags/-a")
        pull_all(paths, reference, file, values["platform"] or "")
        print(reference.name)
        return 0
    if file and not has_tag:
        print(f"Using default tag: {reference.tag}", flush=True)
    pull(paths, reference, file, values["platform"] or "")
    print(reference.text)
    return 0


def pull(paths: Paths, reference: Reference, file: TextIO | None, platform: str = "") -> None:
    """Pulls, and tells `file` of it."""
    from docklock.image.progress import Progress

    platform = parse_platform(platform)
    repository = _open(reference)
    progress = Progress(file)
    is_new = _pull_tag(paths, reference, repository, progress, platform)
    progress.say(f"Status: {NEWS[is_new]} for {reference.familiar}")


def pull_all(paths: Paths, reference: Reference, file: TextIO | None, platform: str) -> None:
    """Pulls every tag of a name; the first that fails ends it, and what came before it stays."""
    from docklock.image.progress import Progress
    from docklock.image.reference import get_familiar_name

    platform = parse_platform(platform)
    repository = _open(reference)
    news = []
    for tag in repository.list_tags():
        progress = Progress(file)
        wanted = reference._replace(tag=tag)
        news.append(_pull_tag(paths, wanted, repository, progress, platform))
    if not news:
        raise StateError(f"{get_familiar_name(reference.name)}: the registry has no tags of it")
    Progress(file).say(f"Status: {NEWS[any(news)]} for {get_familiar_name(reference.name)}")


def _open(reference: Reference) -> Repository:
    from docklock.image.credentials import HelperMissing, find_login
    from docklock.image.registry import Repository

    login = None
    try:
        login = find_login(reference.name.partition("/")[0])
    except HelperMissing as error:  # another machine's configuration; most images are for all
        print(f"Warning: {error}: asking without a password", file=sys.stderr, flush=True)
    return Repository(reference, login)


def _pull_tag(
    paths: Paths, reference: Reference, repository: Repository, progress: Progress, platform: str
) -> bool:
    from docklock.image.pull import pull_image

    pulled = pull_image(paths, reference, repository, progress, platform)
    progress.say(f"Digest: {pulled.digest}")
    return pulled.is_new


def pull_for_run(
    paths: Paths, name: str, platform: str, *, is_asked: bool, is_quiet: bool
) -> Image:
    """What `run` does where an image is not here, or was asked for anew. SpecError, StateError."""
    from docklock.image.reference import parse_reference
    from docklock.image.store import ImageStore, NoSuchImage, suggest_name

    if name.startswith("sha256:"):
        raise NoSuchImage(f"No such image: {name}: an ID cannot be pulled")
    reference = parse_reference(name)
    if not is_asked:
        print(f"Unable to find image '{reference.familiar}' locally", file=sys.stderr, flush=True)
    try:
        pull(paths, reference, None if is_quiet else sys.stderr, platform)
    except DocklockError:
        hint = suggest_name(name, ImageStore(paths).list_entries())
        if hint:
            print(f"docklock: {name} is no image that is here{hint}", file=sys.stderr)
        raise
    return ImageStore(paths).resolve(reference.text)


def parse_platform(word: str) -> str:
    """`OS/ARCH[/VARIANT]` of what people write; empty for this host's. SpecError."""
    from docklock.cli.refine import ARCHITECTURES

    parts = word.lower().split("/")
    if parts in ([""], ["linux"]):
        return ""
    if len(parts) == 1:
        parts = ["linux", *parts]
    if len(parts) > 3 or not all(parts):
        raise SpecError(f"--platform {word}: expected OS/ARCH or OS/ARCH/VARIANT")
    return "/".join((parts[0], ARCHITECTURES.get(parts[1], parts[1]), *parts[2:]))
