"""`docklock sync`, `info` and the metrics: what they say, and their exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from chainlite.bpci.acknowledgement import decode_held
from chainlite.errors import StateError
from chainlite.tlogproof import check_log_proof
from docklock.agent.metrics import format_metrics
from docklock.cli.info import get_servers
from docklock.evidence.host_log import HostLog
from docklock.outbox.figures import HELP, list_figures
from docklock.outbox.holding import check_sent
from docklock.outbox.record_file import get_directory
from docklock.outbox.status import find_servers, read_status
from tests.agent.openmetrics import parse_page
from tests.agent.test_metrics import COUNTS
from tests.evidence.logs import grow
from tests.evidence.recording import append_durably, begin, make_id, make_paths, record
from tests.ledger.offered import get_size, make_host
from tests.outbox.sends import check_alike, get_host, make_synced, run_sync, write_config
from tests.outbox.servers import Books, BooksServer
from tests.outbox.test_checking import claim_other_root, get_held


def test_now_sends_all_and_status_says_so(
    tmp_path: Path, server: BooksServer, other: BooksServer
) -> None:
    paths = make_host(tmp_path)
    config = write_config(tmp_path / "agent.toml", server, other)
    code, out, err = run_sync(paths, "now", "--config", config)
    size = get_size(paths)
    assert (code, err) == (0, "") and out.count(f"well      {size} of {size}") == 2
    for one in (server, other):
        check_alike(paths, one)
    grow(paths, 5)
    code, out, _ = run_sync(paths, "status", "--format", "json")  # the file is known by now
    shown = json.loads(out)["servers"]
    assert code == 0 and [one["name"] for one in shown] == ["office", "vault"]
    assert shown[0]["acknowledged"] == size and shown[0]["log_size"] == size + 5
    assert shown[0]["lag_leaves"] == 5 and 0 < shown[0]["lag_s"] < 60
    assert shown[0]["next_try_ms"] is None and shown[0]["trouble"] is None
    code, out, _ = run_sync(paths, "run", "--config", config, "--format", "json")
    assert code == 0 and json.loads(out)["servers"][1]["lag_leaves"] == 0


def test_now_exits_with_1_while_something_is_due(
    tmp_path: Path, server: BooksServer, other: BooksServer
) -> None:
    paths = make_host(tmp_path)
    config = write_config(tmp_path / "agent.toml", server, other)
    server.stop()
    code, out, err = run_sync(paths, "now", "--config", config)
    assert code == 1 and "docklock: office: " in err and "failed" in err
    assert "office: " in out and "away" in out
    check_alike(paths, other)
    server.start()
    assert run_sync(paths, "now", "--config", config)[0] == 0


def test_now_and_status_exit_with_3_on_a_contradiction(
    tmp_path: Path, server: BooksServer, other: BooksServer
) -> None:
    paths = make_host(tmp_path)
    config = write_config(tmp_path / "agent.toml", server, other)
    held = get_held(paths)
    server.act = lambda _: (200, claim_other_root(server, held), {})
    code, _, err = run_sync(paths, "now", "--config", config)
    assert code == 3 and "another history" in err
    code, out, _ = run_sync(paths, "status", "--format", "json")
    shown = json.loads(out)["servers"][0]
    assert code == 3 and (shown["state"], shown["contradictions"]) == ("contradicted", 1)
    check_alike(paths, other)
    server.act = None
    server.books.leaves.clear()
    assert run_sync(paths, "now", "--config", config)[0] == 0
    assert run_sync(paths, "status")[0] == 0


def test_an_auditor_is_handed_a_proof_that_stands_alone(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    config = write_config(tmp_path / "agent.toml", server)
    output = tmp_path / "office.proof"
    words = ("proof", "office", "-o", str(output))
    assert run_sync(paths, *words, "--config", config)[0] == 1  # nothing is acknowledged yet
    run_sync(paths, "now", "--config", config)
    code, out, err = run_sync(paths, *words)
    assert (code, err) == (0, "") and f"holds the first {get_size(paths)} leaves" in out
    proven = check_log_proof(output.read_bytes(), server.books.log_keys)
    held = decode_held(proven.leaf)
    assert (held.host, held.size) == (get_host(paths), get_size(paths))
    code, _, err = run_sync(paths, "proof", "ofice")
    assert code == 1 and "did you mean office?" in err


def test_without_a_server_nothing_is_done_and_nothing_is_said(tmp_path: Path) -> None:
    paths = make_host(tmp_path)
    config = tmp_path / "agent.toml"
    config.write_text('log-level = "info"\n')
    for words in (("status",), ("now",), ("run",), ("run", "--follow")):
        assert run_sync(paths, *words, "--config", str(config)) == (0, "", "")
    assert not Path(get_directory(paths)).exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "verbs are status, now, run, enrol, proof"),
        (("stauts",), "did you mean status?"),
        (("status", "x"), "expected"),
        (("now", "--format", "xml"), "takes json or text"),
        (("run", "--follow", "--parent", "me"), "takes a process id"),
        (("now", "--config", "/nowhere.toml"), "no such file"),
        (("proof",), "expected"),
        (("enrol", "office"), "expected"),
    ],
)
def test_what_does_not_parse_is_2(
    tmp_path: Path, server: BooksServer, words: tuple[str, ...], said: str
) -> None:
    paths = make_paths(tmp_path)
    if "--parent" in words:
        words += ("--config", write_config(tmp_path / "agent.toml", server))
    code, _, err = run_sync(paths, *words)
    assert code == 2 and said in err


def test_a_wrong_file_is_named_with_line_and_key(tmp_path: Path, server: BooksServer) -> None:
    config = Path(write_config(tmp_path / "agent.toml", server))
    config.write_text(config.read_text().replace("http://", "gopher://"))
    code, _, err = run_sync(make_paths(tmp_path), "now", "--config", str(config))
    assert code == 2 and f"{config}: line 3: url: want https://" in err


def test_info_says_how_far_servers_are(tmp_path: Path, server: BooksServer) -> None:
    paths = make_host(tmp_path)
    assert get_servers(paths) == []
    config = write_config(tmp_path / "agent.toml", server)
    run_sync(paths, "now", "--config", config)
    size = get_size(paths)
    assert get_servers(paths) == [f"office: {size} of {size} leaves acknowledged"]
    grow(paths, 1)
    [line] = get_servers(paths)
    assert line.startswith(f"office: {size} of {size + 1} leaves acknowledged, ")
    assert re.search(r", [0-9,]+ bytes and 0 s behind$", line)
    Path(config).write_text("[[server]]\n")
    assert get_servers(paths) == [
        f"{config}: line 1: url: want https://HOST:PORT, or a path below it"
    ]


def test_metrics_have_each_server_by_name(
    tmp_path: Path, server: BooksServer, other: BooksServer
) -> None:
    paths = make_synced(tmp_path, server)
    size = get_size(paths)
    grow(paths, 4)
    settings = (server.settings, other.settings)
    figures = list_figures([one.describe() for one in read_status(paths, settings)])
    page = parse_page(format_metrics(COUNTS._replace(outbox=figures)))
    assert set(HELP) <= {name.removeprefix("docklock_") for name in page}
    assert page["docklock_outbox_acknowledged_leaves"].get(server="office") == size
    assert page["docklock_outbox_lag_leaves"].get(server="office") == 4
    assert page["docklock_outbox_lag_leaves"].get(server="vault") == size + 4
    behind = page["docklock_outbox_lag_bytes"]
    assert behind.unit == "bytes"
    with HostLog(paths, None) as log:
        leaves = log.read_leaves(size, 4)
    assert behind.get(server="office") == sum(map(len, leaves))
    assert behind.get(server="vault") > behind.get(server="office")
    lag = page["docklock_outbox_lag_seconds"]
    assert lag.unit == "seconds" and 0 < lag.get(server="office") < lag.get(server="vault")
    assert page["docklock_outbox_well"].get(server="office") == 1
    assert page["docklock_outbox_well"].get(server="vault") == 0
    assert "docklock_outbox_well" not in parse_page(format_metrics(COUNTS))


def test_a_name_cannot_break_the_page(tmp_path: Path) -> None:
    server = BooksServer(Books(), 'a"} 1\\').settings
    found = read_status(make_paths(tmp_path), (server,))
    figures = list_figures([one.describe() for one in found])
    assert list(figures["outbox_well"]) == ['server="a\\"} 1\\\\"']


def test_values_are_not_erased_before_servers_have_them(
    tmp_path: Path, server: BooksServer, other: BooksServer
) -> None:
    paths = make_paths(tmp_path)
    record(paths, make_id(1))
    record(paths, make_id(2))
    check_sent(paths, make_id(1))  # no server, nobody to wait for
    config = write_config(tmp_path / "agent.toml", server, other)
    other.stop()
    run_sync(paths, "now", "--config", config)
    assert len(find_servers(paths)) == 2
    with pytest.raises(StateError, match="vault has not acknowledged this container's evidence"):
        check_sent(paths, make_id(1))
    other.start()
    run_sync(paths, "now", "--config", config)
    check_sent(paths, make_id(1))
    record(paths, make_id(3))
    check_sent(paths, make_id(2))  # only what is newer is not there
    with pytest.raises(StateError, match="office has not"):
        check_sent(paths, make_id(3))
    write_config(tmp_path / "agent.toml")
    check_sent(paths, make_id(3))


def test_where_servers_are_named_is_where_they_were_last_sent_by(
    tmp_path: Path, server: BooksServer
) -> None:
    paths = make_host(tmp_path)
    first = write_config(tmp_path / "first.toml", server)
    run_sync(paths, "now", "--config", first)
    second = write_config(tmp_path / "second.toml")
    assert len(find_servers(paths)) == 1 and find_servers(paths, second) == ()
    run_sync(paths, "now", "--config", second)
    assert find_servers(paths) == ()
    run_sync(paths, "now", "--config", first)
    Path(first).unlink()
    assert find_servers(paths) == ()  # there is no default file here


def test_an_open_run_is_never_all_there(tmp_path: Path, server: BooksServer) -> None:
    paths = make_paths(tmp_path)
    run_sync(paths, "now", "--config", write_config(tmp_path / "agent.toml", server))
    recorder = begin(paths)
    append_durably(recorder, 1)
    with pytest.raises(StateError, match="has not acknowledged"):
        check_sent(paths, make_id())
    recorder.close(0)
