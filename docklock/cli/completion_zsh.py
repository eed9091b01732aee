"""The script for zsh: an autoloaded function `_docklock`, or one to be sourced. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from docklock.cli.completion_bash import join_kinds, join_places

if TYPE_CHECKING:
    from docklock.cli.completion import Entry

_SCRIPT = """\
#compdef docklock
# zsh completion for docklock, made by `docklock completion zsh`

_docklock_about() {
    verbs=() flags=() takes=() places=() repeated= last=
    case $1 in
@ENTRIES@
    esac
}

# Offers what is of these kinds.
_docklock_offer() {
    local kind
    local -a asked listed
    for kind in ${(s:,:)1}; do
        case $kind in
            @*) listed+=(${kind#@}) ;;
            -) ;;
            file) _files ;;
            directory) _files -/ ;;
            *) asked+=($kind) ;;
        esac
    done
    if (( $#asked )); then
        listed+=("${(@f)$("$program" $place completion names $asked 2>/dev/null)}")
    fi
    listed=(${listed:#})
    compadd -a listed
}

_docklock() {
    local at skipped is_over repeated last word number=1
    local program=${(Q)words[1]/#\\~\\//$HOME/}
    local -a verbs flags places place
    local -A takes
    _docklock_about ''
    for word in "${(@)words[2,CURRENT-1]}"; do
        if [[ -n $skipped ]]; then
            [[ -n $at ]] || place+=("$skipped" "${(Q)word}")
            skipped=
        elif [[ -n $is_over ]]; then
            number=$((number + 1))
        elif [[ $word == -- ]]; then
            is_over=1
        elif [[ $word == -?* ]]; then
            if (( ${+takes[$word]} )); then
                skipped=$word
            elif [[ -z $at ]]; then
                place+=("${(Q)word}")
            fi
        elif [[ $number == 1 ]] && (( ${verbs[(I)${(b)word}:*]} )); then
            at=${at:+$at }$word
            _docklock_about "$at"
        else
            number=$((number + 1))
            is_over=$last
        fi
    done
    if [[ -z $skipped && -z $is_over && $PREFIX == --*=* ]]; then
        skipped=${PREFIX%%=*}
        compset -P 1 '*='
    fi
    if [[ -n $skipped ]]; then
        _docklock_offer "${takes[$skipped]-}"
    elif [[ -z $is_over && $PREFIX == -* ]]; then
        _describe -o option flags
    else
        [[ $number != 1 ]] || (( ! $#verbs )) || _describe command verbs
        (( number > $#places )) && [[ -n $repeated ]] && number=$#places
        _docklock_offer "${places[number]-}"
    fi
}

if [[ $funcstack[1] == _docklock ]]; then
    _docklock "$@"
else
    compdef _docklock docklock
fi
"""


def write_script(entries: list[Entry]) -> str:
    """The whole script."""
    return _SCRIPT.replace("@ENTRIES@", "\n".join(map(_write_entry, entries)))


def _write_entry(entry: Entry) -> str:
    takes = [word for name, kinds in entry.takes.items() for word in (name, join_kinds(kinds))]
    lists = {
        "verbs": [_describe(*verb) for verb in entry.verbs],
        "flags": [_describe(*option) for option in entry.options],
        "takes": takes,
        "places": join_places(entry).removesuffix(" ...").split(),
    }
    lines = [
        f"            {name}=({' '.join(map(shlex.quote, words))})"
        for name, words in lists.items()
        if words
    ]
    if entry.is_repeated:
        lines.append("            repeated=1")
    if entry.is_program_last:
        lines.append("            last=1")
    paths = " | ".join(shlex.quote(path) for path in entry.paths)
    return "\n".join([f"        ({paths})", *lines, "            ;;"])


def _describe(name: str, about: str) -> str:
    return f"{name}:{about}" if about else name
