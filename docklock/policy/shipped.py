"""Where the profiles that come with docklock lie: beside this module in an installed wheel, in
policies/ at the top of a checkout.

Not here: reading them (load.py). A profile's name is its file's name without .yaml.
"""

from __future__ import annotations

import os

from chainlite.errors import SpecError

_ROOM = os.path.dirname(os.path.abspath(__file__))
_PLACES = (
    os.path.join(_ROOM, "profiles"),
    os.path.join(os.path.dirname(os.path.dirname(_ROOM)), "policies"),
)
SUFFIX = ".yaml"


def get_profiles_dir() -> str:
    """The directory of the shipped profiles."""
    for place in _PLACES:
        if os.path.isfile(os.path.join(place, "default" + SUFFIX)):
            return place
    raise SpecError(f"the shipped policies are missing: looked in {' and '.join(_PLACES)}")


def list_profiles() -> tuple[str, ...]:
    """The names of the shipped profiles, sorted."""
    names = os.listdir(get_profiles_dir())
    return tuple(sorted(name[: -len(SUFFIX)] for name in names if name.endswith(SUFFIX)))


def is_file_name(name: str) -> bool:
    """Whether a user's word for a policy means a file rather than a shipped profile."""
    return "/" in name or name.endswith((SUFFIX, ".yml"))


def fix_name(name: str) -> str:
    """A user's word for a policy as a container's record keeps it: whatever directory is next."""
    return os.path.abspath(name) if is_file_name(name) else name


def find_policy(name: str) -> str:
    """The file a user's word means. SpecError with the nearest profile if there is none."""
    if is_file_name(name):
        return name
    path = os.path.join(get_profiles_dir(), name + SUFFIX)
    if name and "\0" not in name and os.path.isfile(path):
        return path
    known = list_profiles()
    raise SpecError(
        f"no policy is called {name!r}: choose one of {', '.join(known)}, or name a file with a"
        f" slash or ending in {SUFFIX}"
    )
