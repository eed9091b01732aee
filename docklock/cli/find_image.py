"""Which image `run` and `create` mean: one that is here, or pulled as --pull says.

On the path of `docklock run`: pulling itself (pull) is loaded where there is something to pull.
"""

from __future__ import annotations

from chainlite.errors import SpecError
from chainlite.lean import TYPE_CHECKING
from docklock.cli.options import flag, text
from docklock.image.store import ImageStore, NoSuchImage

if TYPE_CHECKING:
    from typing import Any

    from docklock.image.store import Image
    from docklock.paths import Paths

MISSING, ALWAYS, NEVER = "missing", "always", "never"
PULL_OPTIONS = (
    text("--pull", help="fetch the image: missing (the default), always, never", metavar="WHEN"),
    flag("-q", "--quiet", help="show nothing of fetching the image"),
)


def find_image(paths: Paths, values: dict[str, Any], name: str) -> Image:
    """The image of a name or an ID, as PULL_OPTIONS and --platform say. SpecError, StateError."""
    policy = values["pull"] or MISSING
    if policy not in (MISSING, ALWAYS, NEVER):
        raise SpecError(f"invalid pull option: {policy!r}: must be one of always, missing or never")
    if policy != ALWAYS:
        try:
            return ImageStore(paths).resolve(name)
        except NoSuchImage:
            if policy == NEVER:
                raise
    from docklock.cli.pull import pull_for_run

    platform = values["platform"] or ""
    return pull_for_run(paths, name, platform, is_asked=policy == ALWAYS, is_quiet=values["quiet"])
