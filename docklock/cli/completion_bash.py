"""The script for bash. It needs no bash-completion. Pure.

Bash parts words at `:` and `=`, which names of images and `--option=value` have: the script reads
the line itself, and takes off what bash holds for done. Names are compared as they stand, never
expanded (`compgen -W` would run a `$(...)` in one).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docklock.cli.completion import Entry

_SCRIPT = """\
# bash completion for docklock, made by `docklock completion bash`

_docklock_about() {
    verbs= options= takes= places= last=
    case $1 in
@ENTRIES@
    esac
}

# Adds to COMPREPLY what is of these kinds and begins so.
_docklock_offer() {
    local kind name list= asked= begun=$2
    for kind in ${1//,/ }; do
        case $kind in
            @*) list+=${kind#@}$'\\n' ;;
            file | directory)
                compopt -o filenames 2>/dev/null
                while IFS= read -r name; do COMPREPLY+=("$name"); done \\
                    < <(compgen -"${kind:0:1}" -- "$begun")
                ;;
            -) ;;
            *) asked+=" $kind" ;;
        esac
    done
    [[ -z $asked ]] ||
        list+=$("$program" ${place[@]+"${place[@]}"} completion names $asked 2>/dev/null)
    while IFS= read -r name; do
        [[ -n $name && $name == "$begun"* ]] && COMPREPLY+=("$name")
    done <<<"$list"
}

_docklock() {
    local line=${COMP_LINE:0:COMP_POINT} current= at= skipped= is_over= word whole number=0
    local verbs options takes places last program
    local -a typed place=() kinds
    COMPREPLY=()
    read -ra typed <<<"$line"
    if [[ $line != *[[:space:]] ]]; then
        current=${typed[-1]}
        unset 'typed[-1]'
    fi
    [[ ${#typed[@]} -gt 0 ]] || return
    program=${typed[0]/#\\~\\//$HOME/}
    _docklock_about ''
    for word in "${typed[@]:1}"; do
        if [[ $skipped ]]; then
            [[ $at ]] || place+=("$skipped" "$word")
            skipped=
        elif [[ $is_over ]]; then
            number=$((number + 1))
        elif [[ $word == -- ]]; then
            is_over=1
        elif [[ $word == -?* ]]; then
            if [[ " $takes " == *" $word="* ]]; then
                skipped=$word
            elif [[ -z $at ]]; then
                place+=("$word")
            fi
        elif [[ $number == 0 && " $verbs " == *" $word "* ]]; then
            at=${at:+$at }$word
            _docklock_about "$at"
        else
            number=$((number + 1))
            is_over=$last
        fi
    done
    whole=$current
    if [[ -z $skipped && -z $is_over && $current == --*=* ]]; then
        skipped=${current%%=*}
        current=${current#*=}
    fi
    if [[ $skipped ]]; then
        for word in $takes; do
            [[ $word != "$skipped="* ]] || _docklock_offer "${word#*=}" "$current"
        done
    elif [[ -z $is_over && $current == -* ]]; then
        _docklock_offer "@${options// /,@}" "$current"
    else
        [[ $number != 0 || -z $verbs ]] || _docklock_offer "@${verbs// /,@}" "$current"
        kinds=(${places% ...})
        [[ $places != *' ...' || $number -lt ${#kinds[@]} ]] || number=$((${#kinds[@]} - 1))
        _docklock_offer "${kinds[number]-}" "$current"
    fi
    # What bash takes for a word of its own is not to be said again; the rest of `whole` is.
    local held=${whole%"$current"} spent=
    for word in : =; do
        [[ $COMP_WORDBREAKS != *"$word"* || $whole != *"$word"* ]] || spent+=$word
    done
    [[ $spent ]] && spent=${whole%"${whole##*[$spent]}"}
    for number in "${!COMPREPLY[@]}"; do
        COMPREPLY[number]=$held${COMPREPLY[number]}
        COMPREPLY[number]=${COMPREPLY[number]#"$spent"}
    done
}

complete -F _docklock docklock
"""


def write_script(entries: list[Entry]) -> str:
    """The whole script."""
    return _SCRIPT.replace("@ENTRIES@", "\n".join(map(_write_entry, entries)))


def join_kinds(kinds: tuple[str, ...]) -> str:
    """As the scripts for bash and zsh have them; `-` for nothing to offer."""
    return ",".join(kinds) or "-"


def join_places(entry: Entry) -> str:
    """The kinds of all further words."""
    return " ".join([*map(join_kinds, entry.places), *(["..."] if entry.is_repeated else [])])


def _write_entry(entry: Entry) -> str:
    values = {
        "verbs": " ".join(verb for verb, _ in entry.verbs),
        "options": " ".join(name for name, _ in entry.options),
        "takes": " ".join(f"{name}={join_kinds(kinds)}" for name, kinds in entry.takes.items()),
        "places": join_places(entry),
        "last": "1" if entry.is_program_last else "",
    }
    paths = " | ".join(shlex.quote(path) for path in entry.paths)
    lines = [f"            {name}={shlex.quote(value)}" for name, value in values.items() if value]
    return "\n".join([f"        {paths})", *lines, "            ;;"])
