"""ctrl+p: Textual's palette over our commands and the containers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Provider

from tui.view.text import make_harmless

if TYPE_CHECKING:
    from textual.command import Hits

    from tui.app import DocklockApp

OFFERED_MAX = 50


class Commands(Provider):
    """What `:` knows on the screen below."""

    async def discover(self) -> Hits:
        """All of them."""
        app = cast("DocklockApp", self.app)
        for command in app.get_words():
            run = partial(app.run_command, command)
            yield DiscoveryHit(command.word, run, help=command.about)

    async def search(self, query: str) -> Hits:
        """Those whose word or meaning fits."""
        app = cast("DocklockApp", self.app)
        matcher = self.matcher(query)
        for command in app.get_words():
            words = f"{command.word}  {command.about}"
            score = matcher.match(words)
            if score > 0:
                run = partial(app.run_command, command)
                yield Hit(score, matcher.highlight(words), run, text=words)


class Containers(Provider):
    """A container by some letters of its name."""

    async def search(self, query: str) -> Hits:
        """Those that have the letters, the first OFFERED_MAX of them."""
        app = cast("DocklockApp", self.app)
        rows = app.overview.containers if app.overview is not None else ()
        wanted = query.lower()
        near = [row for row in rows if wanted in row.name.lower()][:OFFERED_MAX]
        matcher = self.matcher(query)
        for row in near:
            name = make_harmless(row.name)
            score = matcher.match(name)
            if score > 0:
                run = partial(app.open_place, "container", row.id)
                status = make_harmless(row.status)
                yield Hit(score, matcher.highlight(name), run, help=f"container, {status}")
