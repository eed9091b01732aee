from __future__ import annotations

import json
from pathlib import Path

import pytest

from chainlite.errors import SpecError
from docklock.cli.options import UsageError
from docklock.cli.policy import run_policy
from docklock.paths import Paths
from docklock.policy.bpf import parse_program
from tests.policy.policies import compile_shipped

PROFILES = ("batch", "default", "network-service", "observe", "strict")
PATHS = Paths("/nonexistent/state", "/nonexistent/run")


def test_ls_names_every_shipped_policy(capsys) -> None:
    assert run_policy(["ls"], PATHS) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "DESCRIPTION"]
    assert [line.split()[0] for line in lines[1:]] == list(PROFILES)
    assert run_policy(["ls", "--format", "json"], PATHS) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == list(PROFILES)


def test_show_says_what_happens_to_each_call(capsys) -> None:
    assert run_policy(["show", "default", "--arch", "x86_64"], PATHS) == 0
    text = capsys.readouterr().out
    assert compile_shipped("default").digest.hex() in text
    assert "deny EPERM if arg0 has 0x7e020000; allow\n    clone\n" in text
    assert run_policy(["show", "default", "--arch", "x86_64", "--format", "json"], PATHS) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["calls"]["mount"] == ["deny EPERM"]
    assert shown["calls"]["io_uring_setup"] == ["closed ENOSYS"]
    more = ["show", "default", "--arch", "x86_64", "--format", "json", "--cap-add", "sys_admin"]
    assert run_policy(more, PATHS) == 0
    assert json.loads(capsys.readouterr().out)["calls"]["mount"] == ["record"]


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_compile_writes_the_program(arch, tmp_path, capfdbinary) -> None:
    wanted = compile_shipped("default", arch).program
    file = tmp_path / "program"
    assert run_policy(["compile", "default", "-o", str(file), "--arch", arch], PATHS) == 0
    assert file.read_bytes() == wanted
    assert run_policy(["compile", "default", "-o", "-", "--arch", arch], PATHS) == 0
    assert capfdbinary.readouterr().out == wanted
    argv = ["compile", "default", "-o", "-", "--arch", arch, "--format", "text"]
    assert run_policy(argv, PATHS) == 0
    lines = capfdbinary.readouterr().out.splitlines()
    assert len(lines) == len(parse_program(wanted))
    assert lines[0].split()[:2] == [b"0", b"ld"]


def test_check_names_the_mistake_and_writes_nothing(tmp_path, capsys) -> None:
    file = tmp_path / "mine.yaml"
    head = "name: mine\ndefault: {action: allow}\n"
    file.write_text(head + "rules:\n  - {syscalls: [opn], action: deny}\n")
    with pytest.raises(SpecError) as raised:
        run_policy(["check", str(file)], PATHS)
    mistake = f"{file}:4:17: no system call is called 'opn'; the nearest is "
    assert str(raised.value).startswith(mistake)
    assert raised.value.exit_code == 2
    file.write_text("name: mine\ndefault: {action: allow}\n")
    assert run_policy(["check", str(file)], PATHS) == 0
    assert "no mistake" in capsys.readouterr().out
    assert not Path(PATHS.state).exists()


def test_wrong_words_end_with_the_right_ones(tmp_path) -> None:
    with pytest.raises(SpecError, match="nearest is CAP_SYS_ADMIN"):
        run_policy(["show", "default", "--cap-add", "sys_admn"], PATHS)
    with pytest.raises(SpecError, match="cannot be written"):
        run_policy(["compile", "default", "-o", str(tmp_path / "no" / "where")], PATHS)
    with pytest.raises(UsageError, match="-o/--output"):
        run_policy(["compile", "default"], PATHS)
