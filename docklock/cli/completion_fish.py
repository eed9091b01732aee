"""The script for fish, which parses options itself: conditions and what they offer. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docklock.cli.completion import DIRECTORY, FILE

if TYPE_CHECKING:
    from docklock.cli.completion import Entry

_BEGINNING = """\
# fish completion for docklock, made by `docklock completion fish`

# The words up to here that are no options: the command and its verb come first.
function __docklock_words
    set -l skipped
    for word in (commandline -opc)[2..]
        if test -n "$skipped"
            set skipped
        else if contains -- $word --root --runroot
            set skipped 1
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end

# Whether the words begin so; with --bare, whether there are no others.
function __docklock_at
    argparse bare -- $argv
    set -l typed (__docklock_words)
    set -l wanted (string split -n ' ' -- "$argv[1]")
    set -l count (count $wanted)
    test (count $typed) -ge $count; or return 1
    if set -q _flag_bare
        test (count $typed) -eq $count; or return 1
    end
    test $count -eq 0; or test "$typed[1..$count]" = "$wanted"
end

function __docklock_names
    set -l typed (commandline -opc)
    set -l place
    for number in (seq 2 (count $typed))
        switch $typed[$number]
            case --root --runroot
                set -a place $typed[$number] $typed[(math $number + 1)]
            case '--root=*' '--runroot=*'
                set -a place $typed[$number]
            case '*'
                contains -- $typed[(math $number - 1)] --root --runroot; or break
        end
    end
    set -l program (string replace -r '^~/' "$HOME/" -- $typed[1])
    $program $place completion names $argv 2>/dev/null
end

complete -c docklock -f
"""


def write_script(entries: list[Entry]) -> str:
    """The whole script."""
    return _BEGINNING + "".join(line for entry in entries for line in _write_entry(entry))


def _write_entry(entry: Entry) -> list[str]:
    lines = []
    for path in entry.paths:
        bare = f"complete -c docklock -n {_quote(f'__docklock_at --bare {_quote(path)}')}"
        begun = f"complete -c docklock -n {_quote(f'__docklock_at {_quote(path)}')}"
        lines += [f"{bare} -a {verb} -d {_quote(about)}\n" for verb, about in entry.verbs]
        options = bare if not path else begun
        lines += [
            f"{options} {_write_name(name)}{_write_value(entry, name)} -d {_quote(about)}\n"
            for name, about in entry.options
        ]
        kinds = tuple(dict.fromkeys(kind for place in entry.places for kind in place))
        if kinds:
            lines.append(f"{begun}{_write_kinds(kinds)}\n")
    return lines


def _write_name(name: str) -> str:
    return f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"


def _write_value(entry: Entry, name: str) -> str:
    if name not in entry.takes:
        return ""
    return f" -r{_write_kinds(entry.takes[name]) or ' -f'}"


def _write_kinds(kinds: tuple[str, ...]) -> str:
    files = [kind for kind in kinds if kind in (FILE, DIRECTORY)]
    words = [kind[1:] for kind in kinds if kind.startswith("@")]
    asked = [kind for kind in kinds if kind not in files and not kind.startswith("@")]
    offered = " ".join([*words, *([f"(__docklock_names {' '.join(asked)})"] if asked else [])])
    return (" -F" if files else " -f") + (f" -a {_quote(offered)}" if offered else "")


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
