"""The documents' promises, run: the README's commands and session, and every test they name.

The README's session is a fenced block that begins with ```console. Its lines that begin with `$ `
are commands (in order, one shell, in a copy of nothing: an empty directory and a root of their
own); `# exit N` at the end of one is its exit code, 0 if there is none. Other lines are output,
for the eye only.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from chainlite.errors import SpecError
from docklock.cli import options
from docklock.cli.main import COMMANDS, NOUNS, PLACES
from docklock.cli.nouns import format_noun
from docklock.cli.tree import MORE_VERBS, Node, ask, read_tree, walk
from docklock.paths import Paths, get_paths

TOP = Path(__file__).resolve().parent.parent
FIRST_SCREEN_LINES = 60
SESSION_COMMANDS_MAX = 12
SESSION_SECONDS = 120


def get_documents() -> list[Path]:
    """Every document of ours: not what tools keep in hidden directories, not others' vectors."""
    found = ((path, path.relative_to(TOP).parts) for path in TOP.rglob("*.md"))
    return sorted(path for path, parts in found if parts[0][0] != "." and "vectors" not in parts)


def get_readme() -> str:
    return (TOP / "README.md").read_text()


def get_test_names() -> set[str]:
    """Every test's function name, and with its file: test_x, tests/a/test_b.py::test_x."""
    names = set()
    for path in (TOP / "tests").rglob("test_*.py"):
        relative = path.relative_to(TOP).as_posix()
        names |= {path.name, path.stem, relative}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                names |= {node.name, f"{relative}::{node.name}", f"{path.name}::{node.name}"}
    return names


def get_fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def get_session() -> list[tuple[str, int]]:
    """The README's session: every command with the exit code it promises."""
    [session, *_] = get_fenced(get_readme(), "console")
    commands = []
    for line in session.splitlines():
        if line.startswith("$ "):
            command, _, note = line[2:].partition("# exit ")
            commands.append((command.strip(), int(note or "0")))
    return commands


def test_the_first_screen_says_what_how_and_shows_it() -> None:
    first = "\n".join(get_readme().splitlines()[:FIRST_SCREEN_LINES])
    shell = get_fenced(first, "sh")
    set_up = [line.split("#")[0].strip() for block in shell for line in block.splitlines()]
    assert [line for line in set_up if line.startswith("./")] == ["./demo", "./test"]
    assert "```console" in first, "the session belongs on the first screen"
    assert "--gate" in first or "-->" in first, "the picture belongs on the first screen"


def test_both_set_up_commands_exist_and_run() -> None:
    for name in ("demo", "test", ".ci/run"):
        path = TOP / name
        assert os.access(path, os.X_OK), f"{name} is not executable"
        assert subprocess.run(["sh", "-n", str(path)]).returncode == 0
    assert "./test" in (TOP / ".ci/run").read_text()


def test_the_session_shows_the_whole_promise() -> None:
    commands = get_session()
    words = " ".join(command for command, _ in commands)
    assert 3 <= len(commands) <= SESSION_COMMANDS_MAX
    for word in ("docklock run", "docklock receipts", "docklock verify"):
        assert word in words
    assert 3 in {code for _, code in commands}, "the session shows spoilt evidence refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="containers need root")
def test_the_session_runs_as_written(tmp_path: Path) -> None:
    """All in one bash, so that variables and files of one line serve the next."""
    lines = []
    for command, code in get_session():
        lines += [
            f"{command}\ncode=$?",
            f'[ $code = {code} ] || {{ echo "exit $code, not {code}:" '
            f"{shlex.quote(command)} >&2; exit 99; }}",
        ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DOCKLOCK_")}
    path = f"{Path(sys.executable).parent}:{TOP / '.venv/bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=tmp_path,
        env=environment | {"DOCKLOCK_ROOT": str(tmp_path / "root"), "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SESSION_SECONDS,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


def test_every_test_that_a_document_names_exists() -> None:
    known = get_test_names()
    missing = [
        f"{document.relative_to(TOP)}: {name}"
        for document in get_documents()
        for name in re.findall(
            r"`((?:tests/[\w/.]+::)?test_\w+(?:\.py)?(?:::test_\w+)?)`", document.read_text()
        )
        if name not in known
    ]
    assert not missing


def test_every_path_that_a_document_links_exists() -> None:
    missing = [
        f"{document.relative_to(TOP)}: {target}"
        for document in get_documents()
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text())
        if not (document.parent / target).exists()
    ]
    assert not missing


def test_every_command_that_a_document_shows_is_one() -> None:
    """`docklock NOUN` in a document's code is a command that the program knows."""
    done = subprocess.run(
        [sys.executable, "-m", "docklock.cli.main", "--help"],
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    known = set(re.findall(r"[a-z-]+", done.stdout))
    shown = {
        noun: document.relative_to(TOP)
        for document in get_documents()
        for block in get_fenced(document.read_text(), "(?:console|sh)")
        for noun in re.findall(r"^(?:\$ )?docklock ([a-z]+)", block, flags=re.MULTILINE)
    }
    assert not {noun: place for noun, place in shown.items() if noun not in known}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A root where nothing is, and which nothing here makes."""
    folder = tmp_path_factory.mktemp("none")
    return get_paths(str(folder / "root"), str(folder / "run"))


@pytest.fixture(scope="module")
def nodes(paths: Paths) -> dict[str, Node]:
    """Every command, noun and verb by its words."""
    return dict(walk(read_tree(paths)))


def find_node(words: list[str], nodes: dict[str, Node]) -> tuple[str, list[str]]:
    """(the command's words, what follows them); the words are without `docklock` itself."""
    if words[0] in NOUNS or (words[0] in nodes and nodes[words[0]].verbs):
        path = " ".join(words[:2])
        if path in nodes:
            return path, words[2:]
    assert words[0] in nodes, f"docklock {words[0]} is no command"
    return words[0], words[1:]


def split_line(line: str) -> list[str]:
    """The words of docklock's own part of a shell line, without its name and --root."""
    words = shlex.split(line, comments=True)
    words = words[words.index("docklock") + 1 :]
    stop = [n for n, word in enumerate(words) if word in ("|", ">", ">>", "<", "&&", ";")]
    words = words[: stop[0]] if stop else words
    while words[0].partition("=")[0] in PLACES:
        words = words[1 if "=" in words[0] else 2 :]
    return words


def count_usage(usage: str) -> tuple[int, float]:
    """How many words a usage lets follow: at least, at most."""
    counts = []
    for way in re.split(r"  or  | \| (?![^\[]*\])", usage):
        words = [word for word in way.split() if word.strip("[]") not in ("OPTIONS", "|")]
        depth, least = 0, 0
        for word in way.split():
            least += depth == 0 and not word.startswith("[")
            depth += word.count("[") - word.count("]")
        counts.append((least, float("inf") if "..." in way else float(len(words))))
    return min(least for least, _ in counts), max(most for _, most in counts)


def parse_words(path: str, words: list[str], nodes: dict[str, Node], paths: Paths) -> None:
    """Have the command's own parser take the words, and change nothing. SpecError."""
    noun, _, verb = path.partition(" ")
    is_real = path in COMMANDS or noun not in NOUNS
    wanted = ask(noun, ["--help"], paths) if is_real and " " not in path else None
    if noun in COMMANDS and " " in path:
        words_asked = [verb, "--help"] if verb in MORE_VERBS.get(noun, ()) else ["--help"]
        wanted = ask(noun, words_asked, paths)
    if wanted is not None and wanted.parser is not None:
        is_verb = " " in path and bool(wanted.parser.get_verbs())
        wanted.parser.parse_args([verb, *words] if is_verb else words)
        return
    command = nodes[path].command
    _, rest = options.parse(command, words)
    least, most = count_usage(command.usage)
    if not least <= len(rest) <= most:
        raise SpecError(f"docklock {path}: {len(rest)} words, not {command.usage}")


def test_every_command_has_examples_that_its_own_parser_takes(
    nodes: dict[str, Node], paths: Paths
) -> None:
    mistakes = []
    for name, node in nodes.items():
        if node.verbs and not node.command.options:
            continue  # a noun: its verbs have them
        if not node.command.examples:
            mistakes.append(f"docklock {name} --help has no example: give its Command `examples`")
        for line in node.command.examples:
            try:
                path, words = find_node(split_line(line), nodes)
                assert path == node.command.name, f"is of docklock {path}"
                parse_words(path, words, nodes, paths)
            except (SpecError, AssertionError, ValueError) as error:
                mistakes.append(f"docklock {name}: example {line!r}: {error}")
    assert not mistakes, "\n".join(mistakes)


def test_every_help_shows_an_example(nodes: dict[str, Node], paths: Paths) -> None:
    for name, node in nodes.items():
        first, *verb = name.split()
        if name in NOUNS:
            shown = format_noun(name, NOUNS[name], COMMANDS)
        elif name in COMMANDS or node.same:
            shown = str(ask(node.same or name, ["--help"], paths))
        else:
            shown = str(ask(first, [*verb, "--help"], paths))
        assert re.search(r"^Examples?:\n  \S", shown, flags=re.MULTILINE), f"{name}: {shown}"


def test_every_command_and_option_says_what_it_does(nodes: dict[str, Node]) -> None:
    silent = [
        f"docklock {name} {' '.join(option.names)}"
        for name, node in nodes.items()
        for option in node.command.options
        if not option.help.strip()
    ]
    assert not silent
    assert all(node.command.summary for node in nodes.values())


def get_command_lines() -> list[tuple[str, str]]:
    """(where, a line) for all that documents show of docklock in code, in blocks and in text."""
    lines = []
    for document in get_documents():
        text = document.read_text()
        place = document.relative_to(TOP).as_posix()
        for block in get_fenced(text, "(?:console|sh)"):
            lines += [(place, line.removeprefix("$ ")) for line in block.splitlines()]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        lines += [(place, span) for span in re.findall(r"(?<!`)`(docklock [^`\n]+)`", prose)]
    return [(place, line) for place, line in lines if line.startswith("docklock ")]


def check_options(line: str, nodes: dict[str, Node]) -> str:
    """What of a line of a document the program would not know; nothing if all is known."""
    first, *rest = split_line(line) or [""]
    if first.startswith("-") or not first or not first.islower():
        return ""
    path, words = find_node([first, *"".join(rest[:1]).split("|")[:1], *rest[1:]], nodes)
    verbs = rest[0].split("|") if " " in path and rest else []
    for verb in verbs:
        if f"{first} {verb}" not in nodes:
            return f"no verb {verb!r}"
    known = {name: one for one in nodes[path].command.options for name in one.names}
    if nodes[path].verbs and not known and rest:
        return f"no verb {rest[0]!r}" if rest[0].islower() and rest[0].isalpha() else ""
    rest = words if " " in path else rest
    while rest:
        word = rest.pop(0)
        name, has_value, _ = word.partition("=")
        if word == "--" or (not word.startswith("-") and nodes[path].command.is_program_last):
            return ""
        if not word.startswith("--") or name == "--help":
            continue
        if name not in known:
            return f"no option {name}"
        if known[name].metavar and not has_value:
            rest = rest[1:]
    return ""


def test_every_verb_and_option_that_a_document_shows_is_one(nodes: dict[str, Node]) -> None:
    lines = get_command_lines()
    assert len(lines) > 100
    mistakes = []
    for place, line in lines:
        try:
            wrong = check_options(line, nodes)
        except (AssertionError, ValueError) as error:
            wrong = str(error)
        if wrong:
            mistakes.append(f"{place}: {line}: {wrong}")
    assert not mistakes, "\n".join(mistakes)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("docklock run --polcy strict busybox ls --polcy", "no option --polcy"),
        ("docklock run --policy strict busybox ls --polcy", ""),
        ("docklock --root DIR chain statsu", "no verb 'statsu'"),
        ("docklock chain status|bloks", "no verb 'bloks'"),
        ("docklock log fsck --repiar", "no option --repiar"),
        ("docklock container ls --format json", ""),
        ("docklock image ls --al", "no option --al"),
        ("docklock COMMAND --any", ""),
    ],
)
def test_a_document_that_shows_what_is_not_there_is_found(
    line: str, wrong: str, nodes: dict[str, Node]
) -> None:
    assert check_options(line, nodes) == wrong


def test_the_readme_names_every_command(nodes: dict[str, Node]) -> None:
    """In the table of its section Commands, and no other."""
    section = get_readme().split("\n## Commands\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    listed = [name for row in rows for name in re.findall(r"`([a-z ]+?)`", row)]
    assert sorted(listed) == sorted([*COMMANDS, *NOUNS])
