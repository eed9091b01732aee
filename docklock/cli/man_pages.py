"""Manual pages as man(7) source, made of the tree: what --help says, and no word of it again.

A command's page holds its verbs too; another name of a command (`container ls`) leads to it.
Pure: no file is read or written. Not here: showing and writing them (man).
Source: man(7), groff_man(7); `mandoc -Tlint` finds nothing in them.
"""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from docklock import __version__
from docklock.cli.main import COMMANDS, NOUNS, RUNS_PROGRAMS
from docklock.cli.oci import COMMANDS as RUNTIME_COMMANDS
from docklock.cli.oci import PROGRAM as RUNTIME
from docklock.cli.options import FLAG, LIST
from docklock.cli.tree import GLOBAL, HELP

if TYPE_CHECKING:
    from docklock.cli.options import Command, Option
    from docklock.cli.tree import Node

PROGRAM = "docklock"
WORDS_OF = "2026-11-29"  # the day of the words that stand here; the rest is as new as the tree
LINE_CHARS = 78
PROGRAM_SUMMARY = "run containers and keep a signed record of what they did"
PROGRAM_TEXT = (
    "Docklock runs containers where you typed docker run, under a deterministic policy, and leaves "
    "signed receipts of what they did that anyone can verify offline. No daemon is needed: each "
    "container has a supervisor of its own, which survives whoever started it.",
    "A COMMAND is Docker's where Docker has it, with Docker's options, output and exit codes.",
)
RUNTIME_TEXT = (
    "The OCI runtime specification's verbs, on a bundle: what Docker, containerd, podman and "
    "Kubernetes call as their runtime, so that their containers leave receipts too. A bundle names "
    "its policy with the annotation dev.docklock.policy."
)
DONE = (("0", "Done."), ("1", "The wrong state, or an error of the kernel."))
REFUSED = ("2", "A wrong request or document.")
TAMPERED = ("3", "Tampered: the evidence contradicts itself, or there are two histories.")
OF_PROGRAMS = (
    ("125", "Docklock itself could not."),
    ("126", "The program cannot be run."),
    ("127", "The program is not there."),
    ("128+n", "Signal n ended the program."),
)
EXIT_CODES: dict[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(
        RUNS_PROGRAMS,
        (("0-255", "The program's, where one was waited for; else 0."), *OF_PROGRAMS),
    ),
    "attach": (
        ("0-255", "The program's; 0 where the detach keys left it running."),
        ("1", "The wrong state."),
    ),
    "verify": (
        ("0", "Whole and trusted."),
        ("1", "There is no such container."),
        ("2", "Not evidence."),
        TAMPERED,
        ("4", "Whole, but of a key that was not named, or that its host has revoked."),
    ),
}
HALTING = frozenset(("audit", "bpci", "chain", "demo", "log", "notary", "sync", "witness"))
"""Commands that exit with 3 where somebody contradicts themselves."""
ENVIRONMENT = (
    ("DOCKLOCK_ROOT", "Where all is kept, unless --root says it."),
    ("DOCKLOCK_RUNROOT", "Where what runs has its sockets, unless --runroot says it."),
    ("DOCKER_CONFIG", "The directory of config.json, which has the passwords of registries."),
    ("COLUMNS", "How wide the terminal is, in place of what it says itself."),
    ("NO_COLOR", "The terminal UI shows no colour; nothing else of docklock has any."),
)
FILES = (
    ("/var/lib/docklock", "Containers, images, evidence, this host's keys and its log."),
    ("/run/docklock", "Sockets and journals of what runs."),
    ("/etc/docklock/agent.toml", "The agent's settings: servers, chain, witnesses."),
    ("/etc/docklock/witnesses.toml", "Whose cosignatures of this host's log count."),
    ("/etc/docklock/witness.toml", "The settings of this host's witness of others' logs."),
    ("/etc/docklock/certs.d, /etc/docker/certs.d", "Certificates of registries, by their names."),
)


def write_pages(tree: dict[str, Node]) -> dict[str, str]:
    """All pages by name, without a suffix: `docklock`, `docklock-run` and so on."""
    others: dict[str, list[str]] = {}
    for path, name in list_aliases(tree).items():
        if name not in NOUNS:
            others.setdefault(name, []).append(path)
    pages = {PROGRAM: write_program(tree)}
    for name, node in tree.items():
        pages[name_page(name)] = write_page(name, node, others.get(name, []))
    return pages | {RUNTIME: write_runtime(RUNTIME_COMMANDS)}


def list_aliases(tree: dict[str, Node]) -> dict[str, str]:
    """What has no page of its own, and the command whose page it is: `container ls`, `ps`."""
    return {
        f"{noun} {verb}": node.same or noun
        for noun in NOUNS
        for verb, node in tree[noun].verbs.items()
    }


def name_page(command: str) -> str:
    """docklock-container-ls."""
    return "-".join((PROGRAM, *command.split()))


def write_program(tree: dict[str, Node]) -> str:
    """The page of docklock itself: what there is, and where."""
    lines = [_write_title(PROGRAM), ".SH NAME", rf"docklock \- {escape(PROGRAM_SUMMARY)}"]
    synopsis = _write_synopsis(PROGRAM, "[OPTIONS] COMMAND [ARG...]")
    lines += [".SH SYNOPSIS", *synopsis, ".SH DESCRIPTION"]
    lines += _write_paragraphs(PROGRAM_TEXT)
    lines += [".SH OPTIONS", *_write_options(GLOBAL), ".SH COMMANDS"]
    for name in tree:
        summary = COMMANDS[name][2] if name in COMMANDS else NOUNS[name]
        lines += [".TP", rf"\fB{escape_literal(name_page(name))}\fR(1)", escape(f"{summary}.")]
    lines += [".SH EXIT STATUS", *_write_list((*DONE, REFUSED, TAMPERED))]
    lines += [".PP", escape("Commands that run a program exit with its code, or with:")]
    lines += _write_list(OF_PROGRAMS)
    lines += [".SH ENVIRONMENT", *_write_list(ENVIRONMENT), ".SH FILES", *_write_list(FILES)]
    return (
        "\n".join([*lines, ".SH SEE ALSO", *_refer([RUNTIME, "docklock-run", "docklock-verify"])])
        + "\n"
    )


def write_page(name: str, node: Node, others: list[str]) -> str:
    """The page of a command, or of a noun with its verbs. `others` are its other names."""
    command = node.command
    summary = COMMANDS[name][2] if name in COMMANDS else NOUNS[name]
    page = name_page(name)
    lines = [_write_title(page), ".SH NAME", rf"{escape_literal(page)} \- {escape(summary)}"]
    lines += [".SH SYNOPSIS", *_write_synopsis(f"{PROGRAM} {name}", command.usage)]
    lines += [".SH DESCRIPTION", escape(command.summary)]
    if name in NOUNS:
        lines += [".PP", escape("Each verb is a command that has another name, too.")]
    if others:
        known = ", ".join(f"docklock {other}" for other in others)
        lines += [".PP", escape(f"The same as {known}.")]
    if not node.verbs or command.options:
        lines += [".SH OPTIONS", *_write_options((*command.options, HELP))]
    if node.verbs:
        lines.append(".SH VERBS")
    for verb, below in node.verbs.items():
        lines += _write_verb(f"{name} {verb}", below)
    examples = command.examples or tuple(
        line
        for below in node.verbs.values()
        for line in below.command.examples[: 1 if below.same else None]
    )
    lines += [".SH EXAMPLES", *_write_examples(examples)]
    lines += [".SH EXIT STATUS", *_write_list(get_exit_codes(name))]
    pages = [PROGRAM, *(name_page(below.same) for below in node.verbs.values() if below.same)]
    return "\n".join([*lines, ".SH SEE ALSO", *_refer(list(dict.fromkeys(pages)))]) + "\n"


def write_runtime(commands: dict[str, Command]) -> str:
    """The page of the OCI runtime, docklock-runtime."""
    lines = [_write_title(RUNTIME), ".SH NAME", rf"{escape_literal(RUNTIME)} \- OCI runtime"]
    lines += [".SH SYNOPSIS", *_write_synopsis(RUNTIME, "[OPTIONS] VERB ...")]
    lines += [".SH DESCRIPTION", escape(RUNTIME_TEXT), ".SH OPTIONS", *_write_options(GLOBAL)]
    lines.append(".SH VERBS")
    for verb, command in commands.items():
        lines += [f".SS {escape_literal(f'{RUNTIME} {verb} {command.usage}')}"]
        lines += [escape(command.summary), *_write_options(command.options)]
    examples = tuple(line for command in commands.values() for line in command.examples)
    lines += [".SH EXAMPLES", *_write_examples(examples)]
    lines += [".SH EXIT STATUS", *_write_list((*DONE, REFUSED)), ".SH SEE ALSO", *_refer([PROGRAM])]
    return "\n".join(lines) + "\n"


def get_exit_codes(name: str) -> tuple[tuple[str, str], ...]:
    """What a command can exit with, and when."""
    if name in NOUNS:
        return (("0-255", "As the command that the verb stands for."),)
    return EXIT_CODES.get(name) or (*DONE, REFUSED, *([TAMPERED] if name in HALTING else []))


def _write_verb(path: str, node: Node) -> list[str]:
    if node.same:
        verb = escape_literal(path.rpartition(" ")[2])
        summary = f"{COMMANDS[node.same][2]}:"
        return [
            ".TP",
            rf"\fB{verb}\fR",
            escape(summary),
            rf"\fB{escape_literal(name_page(node.same))}\fR(1)",
        ]
    command = node.command
    lines = [f".SS {escape_literal(f'docklock {path} {command.usage}'.rstrip())}"]
    lines += [escape(command.summary), *_write_options(command.options)]
    return lines


def _write_title(page: str) -> str:
    return f'.TH {escape_literal(page.upper())} 1 "{WORDS_OF}" "docklock {__version__}" "Docklock"'


def _write_synopsis(typed: str, usage: str) -> list[str]:
    bold = rf"\fB{escape_literal(typed)}\fR"
    ways = usage.split("  or  ")
    lines = []
    for number, way in enumerate(ways):
        lines += [*([".br"] if number else []), f"{bold} {escape_literal(way)}".rstrip()]
    return lines


def _write_options(options: tuple[Option, ...]) -> list[str]:
    lines = []
    for option in options:
        names = ", ".join(rf"\fB{escape_literal(name)}\fR" for name in option.names)
        value = "" if option.kind == FLAG else rf" \fI{escape_literal(option.metavar)}\fR"
        lines += [".TP", f"{names}{value}", escape(_describe(option))]
    return lines


def _write_examples(examples: tuple[str, ...]) -> list[str]:
    """As they are typed, a long one in several lines."""
    lines = []
    for example in examples:
        first, *rest = wrap(example, LINE_CHARS - 4, break_long_words=False, break_on_hyphens=False)
        ends = [*([" \\"] * len(rest)), ""]
        lines += [
            escape_literal(f"{line}{end}")
            for line, end in zip([first, *(f"    {one}" for one in rest)], ends, strict=True)
        ]
    return [".EX", *lines, ".EE"]


def _describe(option: Option) -> str:
    text = option.help
    if option.kind == LIST and "several times" not in text:
        text += "; may be given several times"
    return f"{text}."


def _write_list(pairs: tuple[tuple[str, str], ...]) -> list[str]:
    return [
        line for word, about in pairs
        for line in (".TP", rf"\fB{escape_literal(word)}\fR", escape(about))
    ]  # fmt: skip


def _write_paragraphs(texts: tuple[str, ...]) -> list[str]:
    return [line for number, text in enumerate(texts)
            for line in (*([".PP"] if number else []), escape(text))]  # fmt: skip


def _refer(pages: list[str]) -> list[str]:
    ends = [*([","] * (len(pages) - 1)), ""]
    return [rf"\fB{escape_literal(page)}\fR(1){end}" for page, end in zip(pages, ends, strict=True)]


def escape(text: str) -> str:
    """Prose as roff reads it back, in short lines: no request, no escape of its own."""
    lines = wrap(text, LINE_CHARS, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(_escape_line, lines))


def _escape_line(text: str) -> str:
    text = text.replace("\\", r"\e")
    return rf"\&{text}" if text[:1] in (".", "'") else text


def escape_literal(text: str) -> str:
    """What is typed: a hyphen is a hyphen, a quote and a caret stay what they are."""
    text = _escape_line(text).replace("-", r"\-")
    for character, name in (("'", r"\(aq"), ("`", r"\(ga"), ("^", r"\(ha"), ("~", r"\(ti")):
        text = text.replace(character, name)
    return text
