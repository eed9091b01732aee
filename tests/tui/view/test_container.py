"""One container's model: what was seen stays when it is gone, and the head says so."""

from __future__ import annotations

from docklock.console.facts import (
    UNKNOWN,
    Anchor,
    Connection,
    ContainerRow,
    Details,
    FileChange,
    LogLine,
    Overview,
    Process,
    RuleHits,
    Usage,
    Verdict,
)  # fmt: skip
from tests.tui.hostile import find_raw, make_hostile
from tui.view.container import ContainerModel, write_anchor, write_head, write_verdict
from tui.view.container_tables import (
    FILE_COLUMNS,
    NETWORK_COLUMNS,
    PROCESS_COLUMNS,
    RULE_COLUMNS,
    describe_more,
    list_files,
    list_network,
    list_processes,
    list_rules,
    match_rows,
    write_log,
    write_settings,
)  # fmt: skip
from tui.view.lines import get_text

NS = 10**9
ROW = ContainerRow(
    "c" * 64, "web", image="busybox", status="running", run=0, started_ns=90 * NS,
    policy="strict", usage=Usage(12.5, 4 << 20, 64 << 20), receipts=4031, receipts_per_s=30.0,
    denials=4, anchor=Anchor("host log", "", 95 * NS), measured_ns=100 * NS,
)  # fmt: skip


def see(model: ContainerModel, at_s: int, **changes: object) -> None:
    row = ROW._replace(measured_ns=at_s * NS)._replace(**changes)
    model.take_overview(Overview(at_s * NS, containers=(row,)))


def get_head(model: ContainerModel, *verdicts: Verdict) -> str:
    return "\n".join(map(get_text, write_head(model, verdicts, 100 * NS)))


def get_values(model: ContainerModel, name: str) -> list[float]:
    return [point.value for point in model.histories[name].get_points()]


def test_the_head_says_what_it_is_how_it_is_and_whether_its_evidence_holds() -> None:
    model = ContainerModel(ROW.id)
    assert "is being looked at" in get_head(model)
    see(model, 100)
    model.take_details(Details(ROW, ("nginx", "-g")))
    head = get_head(model, Verdict(True, container=ROW.id, checked_ns=60 * NS))
    for words in (
        "web", "running for 10 s", "image busybox", "nginx -g", "CPU 12%", "4 MiB of 64 MiB",
        "4 of 4,031 receipts", "policy strict", "only this host's log", "✓ whole at 00:01:00",
    ):  # fmt: skip
        assert words in head, (words, head)


def test_a_removed_container_keeps_what_was_seen_and_says_since_when() -> None:
    model = ContainerModel(ROW.id)
    see(model, 100)
    model.take_overview(Overview(101 * NS, trouble="the disk is gone"))
    assert not model.gone_ns  # nobody could look
    model.take_overview(Overview(102 * NS))
    model.take_overview(Overview(103 * NS))
    head = get_head(model)
    assert "REMOVED since 00:01:42 UTC" in head and "4,031 receipts" in head
    see(model, 104)
    assert "REMOVED" not in get_head(model)


def test_a_container_that_died_says_how_and_one_that_never_was_says_so() -> None:
    model = ContainerModel(ROW.id)
    see(model, 100, status="exited", exit_code=137, finished_ns=97 * NS)
    assert "exited with 137, 3 s ago" in get_head(model)
    other = ContainerModel("d" * 64)
    other.take_overview(Overview(1))
    assert "is not there" in get_head(other)


def test_details_that_cannot_be_read_any_more_do_not_take_away_what_was_read() -> None:
    model = ContainerModel(ROW.id)
    whole = Details(ROW, ("sh",), (("memory", "64 MiB"),), (Process(1, 0, "root", 0, 0, 0, "sh"),))
    model.take_details(whole)
    model.take_details(Details(ROW, trouble="no such container"))
    assert model.details == whole._replace(trouble="no such container")
    model.take_details(whole._replace(processes=()))
    assert model.details is not None and not model.details.processes


def test_plots_have_one_point_for_each_measurement_and_denials_as_a_rate() -> None:
    model = ContainerModel(ROW.id)
    see(model, 100)
    see(model, 100)  # looked at again, not measured again
    see(model, 102, denials=10)
    see(model, 104, denials=0, run=1)
    see(model, 106, denials=2, run=1, status="exited")
    assert get_values(model, "cpu") == [12.5, 12.5, 12.5, UNKNOWN]
    assert get_values(model, "denials") == [UNKNOWN, 3.0, UNKNOWN, 1.0]
    assert get_values(model, "receipts") == [30.0] * 4


def test_a_broken_verdict_says_where_and_since_when_and_comes_first() -> None:
    broken = Verdict(False, "receipt 3 of run 0", "bytes differ", ROW.id, 60 * NS, 90 * NS)
    whole = Verdict(True, container=ROW.id, checked_ns=99 * NS)
    text = get_text(write_verdict(ROW.id, (whole, broken)))
    assert text == "✗ BROKEN since 00:01:00 UTC at receipt 3 of run 0: bytes differ"
    assert get_text(write_verdict("e" * 64, (whole, broken))) == "not verified yet"


def test_anchors_are_said_in_words() -> None:
    assert write_anchor(Anchor(), 0).text == "anchored: nowhere yet"
    block = Anchor("block", "12", 90 * NS)
    assert write_anchor(block, 100 * NS).text == "anchored: block 12, 10 s ago"


def test_rows_have_a_cell_for_each_column() -> None:
    details = Details(
        ROW,
        processes=(Process(1, 0, "root", 90 * NS, 1.5, 1, "sh"),),
        files=(FileChange("A", "/etc/x", 12),),
        interfaces=(("eth0", 1, 2),),
        connections=(Connection("tcp", "a", "b", "LISTEN"),),
        rules=(RuleHits("connect", "deny EPERM", 4, 7), RuleHits("bind", "record", 9)),
    )
    network, rules = list_network(details), list_rules(details)
    for rows, columns in (
        (list_processes(details, 100 * NS), PROCESS_COLUMNS),
        (list_files(details), FILE_COLUMNS),
        (network, NETWORK_COLUMNS),
        (rules, RULE_COLUMNS),
    ):
        assert all(set(row.cells) == {column.key for column in columns} for row in rows)
    assert [row.cells["what"].text for row in network] == ["interface", "tcp"]
    assert [row.cells["hits"] for row in rules] == [("4", "warn"), ("9", "")]
    assert match_rows(network, "TCP listen") == [network[1]]
    cut = details._replace(more=(("files", 4000), ("files", 19), ("processes", 1)))
    assert describe_more(cut, "files", 12, 12) == "12 of 4,031 shown"


def test_stderr_is_told_by_a_letter_and_long_lines_are_wrapped() -> None:
    lines = (LogLine(NS, "stderr", "no " * 20), LogLine(NS, "stdout", "yes"))
    assert [get_text(line)[:14] for line in write_log(lines, "")] == [
        "00:00:01 e no ",
        "00:00:01   yes",
    ]
    wrapped = [get_text(line) for line in write_log(lines, "", 40)]
    assert len(wrapped) == 4 and all(len(line) <= 40 for line in wrapped)
    assert [get_text(line)[11:] for line in write_log(lines, "YES")] == ["yes"]


def test_hostile_containers_are_harmless() -> None:
    for number in range(12):
        row = make_hostile(ContainerRow, number, id="c", measured_ns=1)
        model = ContainerModel("c")
        model.take_overview(Overview(2, containers=(row,)))
        details = make_hostile(Details, number, row=row)
        model.take_details(details)
        verdict = make_hostile(Verdict, number, container="c")
        lines = [
            *write_head(model, (verdict,), 3), *write_settings(details, 80),
            *write_log((make_hostile(LogLine, number),), "", 60),
        ]  # fmt: skip
        rows = [
            *list_network(details), *list_rules(details), *list_files(details),
            *list_processes(details, 3),
        ]  # fmt: skip
        text = "".join(map(get_text, lines))
        text += "".join(cell.text for row in rows for cell in row.cells.values())
        assert not find_raw(text)
