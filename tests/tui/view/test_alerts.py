"""tui.view.alerts: critical first, then the newest; verdicts and the app's own troubles too."""

from __future__ import annotations

from docklock.console.facts import Alert, Verdict
from tests.tui.network import HOSTILE, S_NS, make_alerts
from tests.tui.screen import NOW_NS
from tui.view.alerts import COLUMNS, describe_alert, get_cell, get_id, list_alerts, make_head

BROKEN = Verdict(False, "receipt 3 of run 0", "its bytes are others", "c" * 64, NOW_NS)


def list_subjects(alerts: list[Alert]) -> list[str]:
    return [one.subject for one in alerts]


def test_critical_comes_first_and_of_one_level_the_newest() -> None:
    older = make_alerts()[0]._replace(subject="three", since_ns=1)
    newer = make_alerts()[0]._replace(subject="four", since_ns=NOW_NS)
    alerts = list_alerts((older, *make_alerts(), newer))
    assert list_subjects(alerts) == ["web", "four", "two", "three", "state"]


def test_a_level_that_is_not_known_here_is_critical() -> None:
    alerts = list_alerts((*make_alerts(), Alert("new", "fatal", "x", "y", NOW_NS)))
    assert alerts[0].subject == "x"
    assert get_cell(alerts[0], "level", NOW_NS).text == "✗ critical"


def test_a_failed_check_is_an_alert_unless_the_source_tells_it_already() -> None:
    [alert] = list_alerts((), (BROKEN, BROKEN._replace(is_whole=True, container="d")))
    assert (alert.level, alert.container, alert.since_ns) == ("critical", "c" * 64, NOW_NS)
    assert alert.why == "receipt 3 of run 0: its bytes are others" and alert.advice
    [named] = list_alerts((), (BROKEN,), names={"c" * 64: "web"})
    assert (alert.subject, named.subject) == ("c" * 64, "web")
    for why in (alert.why, BROKEN.why):
        same = Alert("tampered", "critical", "web", why, NOW_NS, "c" * 64)
        assert list_alerts((same,), (BROKEN,)) == [same]
        other = same._replace(container="d" * 64)
        assert len(list_alerts((other,), (BROKEN,))) == 2


def test_what_the_app_could_not_read_is_listed_with_advice() -> None:
    alerts = list_alerts(make_alerts(), (), [("sync", "no answer since 02:14:00 UTC", NOW_NS)])
    [own] = [one for one in alerts if one.kind == "display"]
    assert (own.subject, own.level, own.since_ns) == ("sync", "warning", NOW_NS)
    assert alerts.index(own) == 1, "after what is critical, before what is older"
    assert own.advice


def test_the_head_counts_each_level_in_words() -> None:
    alerts = list_alerts(make_alerts())
    assert [c.text for c in make_head(alerts, shown=3)] == [
        "1 ✗ critical", "1 ! warning", "1 i info",
    ]  # fmt: skip
    assert make_head(alerts, shown=1)[-1].text == "1 of 3 shown"
    assert "nothing" in make_head([], shown=0)[0].text


def test_an_alert_stays_itself_while_its_words_count_up() -> None:
    alert = make_alerts()[0]
    assert get_id(alert) == get_id(alert._replace(why="nothing was acknowledged for 6 min"))
    assert get_id(alert) != get_id(alert._replace(subject="one"))


def test_a_description_has_reason_and_advice_in_full() -> None:
    alert = make_alerts()[1]._replace(why="w" * 900, advice="a" * 900)
    texts = [pair.text for pair in describe_alert(alert, NOW_NS).pairs]
    assert "w" * 900 in texts and "a" * 900 in texts
    assert any("1 min ago" in text for text in texts)
    unknown = describe_alert(alert._replace(since_ns=0), NOW_NS + S_NS)
    assert "not known" in [pair.text for pair in unknown.pairs]


def test_what_an_alert_says_is_harmless_in_every_cell() -> None:
    [evil] = list_alerts((Alert(HOSTILE, HOSTILE, HOSTILE, HOSTILE, NOW_NS, HOSTILE, HOSTILE),))
    texts = [get_cell(evil, column.key, NOW_NS).text for column in COLUMNS]
    told = describe_alert(evil, NOW_NS)
    texts += [told.title, *(text for pair in told.pairs for text in pair[:2])]
    for text in texts:
        assert text.isprintable() and len(text) <= 4100, text[:100]
        assert not any(mark in text for mark in "\u202e\u2066\ud800\x1b\x07")
