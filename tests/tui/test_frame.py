from __future__ import annotations

from docklock.console.facts import Overview, Verdict
from tests.tui.screen import NOW_NS, Hand, drive, make_source


def test_every_screen_says_where_and_since_when_evidence_is_not_whole() -> None:
    broken = Verdict(
        False, "receipt 3 of run 0", "its bytes are not those that were signed", "", NOW_NS - 10**11
    )
    source = make_source(overview=Overview(NOW_NS, running=200, measured=40), verdicts=(broken,))

    async def steps(hand: Hand) -> None:
        for keys in ((), ("question_mark",), ("escape", "colon")):
            await hand.press(*keys)
            shown = " ".join(hand.read().split())
            assert "NOT WHOLE since 02:12:27 UTC (1 min ago): receipt 3 of run 0: its" in shown
            assert "200 running, 40 measured" in shown

    drive(source, steps, size=(80, 24))
