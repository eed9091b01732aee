"""A name for a container whose user gave none. Pure."""

from __future__ import annotations

MOODS = (
    "amber",
    "bold",
    "brisk",
    "calm",
    "clear",
    "deft",
    "eager",
    "fair",
    "gentle",
    "keen",
    "lucid",
    "mellow",
    "noble",
    "patient",
    "quiet",
    "sober",
    "steady",
    "tidy",
    "vivid",
    "wise",
)
PEOPLE = (
    "bernstein",
    "dijkstra",
    "hamilton",
    "hopper",
    "kernighan",
    "knuth",
    "lamport",
    "liskov",
    "lovelace",
    "merkle",
    "naur",
    "noether",
    "perlman",
    "ritchie",
    "shannon",
    "thompson",
    "torvalds",
    "turing",
    "wirth",
    "zuse",
)


def generate_name(container_id: str) -> str:
    """Two words chosen by the id's first bytes, and four of its digits: collisions are rare."""
    number = int(container_id[:8], 16)
    mood = MOODS[number % len(MOODS)]
    person = PEOPLE[number // len(MOODS) % len(PEOPLE)]
    return f"{mood}_{person}_{container_id[8:12]}"
