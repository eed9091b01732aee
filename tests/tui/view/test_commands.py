from __future__ import annotations

from tui.view.commands import Command, complete, parse_command

COMMANDS = (
    Command("chain", "the chain", "go('chain')"),
    Command("containers", "all", "go('containers')"),
    Command("stop", "stop one", "act('stop', {})", "[CONTAINER]"),
    Command("open", "open one", "open({})", "CONTAINER"),
    Command("q", "leave", "quit", also=("quit",)),
)


def test_a_word_may_be_cut_short_where_it_is_the_only_one() -> None:
    assert parse_command(":ch", COMMANDS).command == COMMANDS[0]
    assert parse_command("QUIT", COMMANDS).command == COMMANDS[4]
    assert parse_command("stop web-1", COMMANDS)[:2] == (COMMANDS[2], "web-1")
    assert parse_command("", COMMANDS).complaint == ""


def test_what_is_no_command_says_why() -> None:
    assert "chain, containers" in parse_command("c", COMMANDS).complaint
    assert "no command" in parse_command("launch", COMMANDS).complaint
    assert "takes nothing" in parse_command("chain x", COMMANDS).complaint
    assert "wants CONTAINER" in parse_command("open", COMMANDS).complaint


def test_completion_offers_words_and_then_containers() -> None:
    assert complete("c", COMMANDS) == ("chain", "containers")
    assert complete("stop we", COMMANDS, ("web-1", "db", "web-2")) == ("stop web-1", "stop web-2")
    assert complete("chain ", COMMANDS, ("web-1",)) == ()
