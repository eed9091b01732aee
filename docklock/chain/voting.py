"""When a validator that has started may vote: not before it knows that it is not behind itself.

A disk that was put back, or a chain that was cut for repair, has forgotten heights at which this
key has voted already; to vote there again is equivocation, and convicts. So a node follows only,
until (1) the height being decided is at least that of the vote log, and (2) so many other
validators have told their height that with this one they are a quorum, and it has all blocks of
which f + 1 of them tell. Without a quorum nothing could be decided anyway, so this costs no time.
Not here: the votes (chainlite.consensus). Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chainlite.consensus.validators import ValidatorSet


def find_obstacle(
    me: bytes,
    height: int,
    voted_height: int,
    validators: ValidatorSet,
    told: Mapping[bytes, int],
) -> str:
    """Why this validator may not vote yet; empty if it may.

    `height` is that of its last block, `voted_height` that of its vote log, `told` what peers that
    are up said of theirs.
    """
    if me not in validators:
        return "its key is not a validator's"
    if height + 1 < voted_height:
        return f"it has voted at height {voted_height} and has the blocks to {height} only"
    others = sorted(
        (told[key] for key in validators.keys if key != me and key in told), reverse=True
    )
    missing = validators.quorum - 1 - len(others)
    if missing > 0:
        return f"{missing} more validators must be up to make a quorum of {validators.quorum}"
    honest = others[validators.weak_quorum - 1 : validators.weak_quorum]
    if honest and honest[0] > height:
        return f"others have block {honest[0]}, this node {height}"
    return ""
