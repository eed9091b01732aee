"""The command `docklock`: find the command's function, run it, turn errors into exit codes.

Exit codes: the container's for run, start, exec and attach; 125 docklock could not, 126 the program
cannot be run, 127 it was not found; for everything else 0, 1 (StateError, KernelError), 2
(SpecError), 3 (TamperError), 4 (`verify`: a key that was not named). Only the asked command's
module is loaded.
"""

from __future__ import annotations

import errno
import os
import sys

from chainlite.errors import DocklockError, SpecError, StateError

# Not imported up here, so that `run` can fork its supervisor first: typing alone takes 6 ms.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from docklock.paths import Paths

# command -> (module below docklock.cli, function, summary)
COMMANDS = {
    "run": ("run", "run_run", "Run a program in a new container"),
    "create": ("run", "run_create", "Make a container without starting it"),
    "start": ("containers", "run_start", "Start created or stopped containers"),
    "exec": ("exec", "run_exec", "Run a program in a running container"),
    "attach": ("attach", "run_attach", "Follow a running container"),
    "ps": ("ps", "run_ps", "List containers"),
    "events": ("events", "run_events", "Show what happens on this host, from its log"),
    "stats": ("stats", "run_stats", "Show what containers use now"),
    "top": ("top", "run_top", "Show it all on a screen; a container's processes if it is named"),
    "logs": ("logs", "run_logs", "Show a container's output"),
    "stop": ("containers", "run_stop", "Ask containers to end, then kill them"),
    "restart": ("restart", "run_restart", "Stop containers and start them again"),
    "kill": ("containers", "run_kill", "Send a signal to containers"),
    "cp": ("cp", "run_cp", "Copy files between a container and this host"),
    "diff": ("export", "run_diff", "Show what a container has changed in its files"),
    "export": ("export", "run_export", "Write a container's root file system as a tar"),
    "pause": ("pause", "run_pause", "Freeze all processes of containers"),
    "unpause": ("pause", "run_unpause", "Let the processes of paused containers go on"),
    "quarantine": ("quarantine", "run_quarantine", "Freeze containers and cut their network"),
    "rename": ("rename", "run_rename", "Give a container another name"),
    "update": ("update", "run_update", "Change limits or restart policy of containers"),
    "wait": ("containers", "run_wait", "Wait for containers to end; print their exit codes"),
    "rm": ("containers", "run_rm", "Remove containers; their evidence stays"),
    "inspect": ("inspect", "run_inspect", "Show all about containers or images as JSON"),
    "images": ("image_list", "run_images", "List images"),
    "pull": ("pull", "run_pull", "Fetch an image from a registry"),
    "push": ("push", "run_push", "Send an image to a registry"),
    "login": ("login", "run_login", "Log in to a registry"),
    "logout": ("login", "run_logout", "Forget the password for a registry"),
    "import": ("images", "run_import", "Make an image of a directory or tar"),
    "load": ("images", "run_load", "Load images from an archive"),
    "save": ("save", "run_save", "Save images to an archive"),
    "tag": ("images", "run_tag", "Give an image one more name"),
    "history": ("history", "run_history", "Show how an image was made"),
    "rmi": ("images", "run_rmi", "Remove images"),
    "receipts": ("receipts", "run_receipts", "List the receipts of a container"),
    "verify": ("verify", "run_verify", "Verify evidence"),
    "evidence": ("evidence", "run_evidence", "Write a container's evidence to one file"),
    "prove": ("prove", "run_prove", "Write the proof of one receipt to a file"),
    "keys": ("keys", "run_keys", "Make, show, rotate or revoke this host's key"),
    "notary": ("notary", "run_notary", "Verify, group and bill this host's segments"),
    "log": ("log", "run_log", "Publish, prove, serve or check this host's log"),
    "witness": ("witness", "run_witness", "Cosign others' logs; have this host's cosigned"),
    "bpci": ("bpci", "run_bpci", "Take other hosts' evidence, as a server"),
    "admin": ("admin", "run_admin", "Rule a tenant at a server: members, quotas, retention"),
    "audit": ("audit", "run_audit", "Read hosts' evidence at a server, with proofs"),
    "chain": ("chain", "run_chain", "Make, run and ask a node of a chain of validators"),
    "sync": ("sync", "run_sync", "Send this host's evidence to its servers"),
    "demo": ("demo", "run_demo", "Show all of it at work on this machine, and remove it"),
    "mend": ("mend", "run_mend", "Mend dead runs; start what restart policies say"),
    "policy": ("policy", "run_policy", "List, show, check and compile policies"),
    "agent": ("agent", "run_agent", "Keep containers as their policies say (a service)"),
    "info": ("info", "run_info", "Show what this host's kernel offers"),
    "check": ("check", "run_check", "Say whether this host can run containers"),
    "system": ("system", "run_system", "Show what takes space, remove the unused, check images"),
    "context": ("context", "run_context", "Show what docklock works on: this host"),
    "completion": ("completion", "run_completion", "Print what completes all this in a shell"),
    "man": ("man", "run_man", "Show the manual page of a command"),
    "version": ("info", "run_version", "Show the version"),
    # Two words are a verb of a noun that has no command of its own (see NOUNS).
    "container prune": ("prune", "run_container_prune", "Remove containers that do not run"),
    "image prune": ("prune", "run_image_prune", "Remove images that nobody uses"),
}
NOUNS = {"container": "Manage containers", "image": "Manage images"}
PLACES = {"--root": "root", "--runroot": "run_root"}
RUNS_PROGRAMS = frozenset(("run", "create", "start", "exec"))
PREPARES = frozenset(("run", "start"))
MENDS = frozenset(COMMANDS) - {
    "admin", "agent", "audit", "bpci", "chain", "check", "completion", "context", "demo", "keys",
    "log", "login", "logout", "man", "mend", "notary", "policy", "info", "version", "images",
    "import", "load", "pull", "push", "save", "tag", "history", "sync", "witness",
}  # fmt: skip
EXIT_DOCKLOCK_FAILED = 125
EXIT_INTERRUPTED = 130
EXIT_NOBODY_READS = 141  # as of a program that SIGPIPE ended


def format_usage() -> str:
    """All commands, a line each."""
    from docklock.screen import wrap

    lines = ["Usage: docklock [--root DIR] [--runroot DIR] COMMAND ...", ""]
    lines += [
        wrap(f"  {name:<10} {entry[2]}", 13) for name, entry in COMMANDS.items() if " " not in name
    ]
    lines += ["", "Docker's nouns, for the same commands:"]
    lines += [f"  {noun:<10} {summary}" for noun, summary in NOUNS.items()]
    lines += ["", wrap("docklock COMMAND --help says more; docklock man COMMAND is its page.", 0)]
    return "\n".join(lines)


def split_global(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """(what get_paths takes, the command and its words)."""
    found: dict[str, str] = {}
    rest = list(argv)
    while rest and rest[0].startswith(("--root", "--runroot")):
        name, has_value, value = rest.pop(0).partition("=")
        if name not in PLACES:
            raise SpecError(f"unknown option {name}; see docklock --help")
        if not has_value:
            if not rest:
                raise SpecError(f"{name} needs a directory")
            value = rest.pop(0)
        found[PLACES[name]] = value
    return found, rest


def dispatch(command: str, argv: list[str], paths: Paths, called: str = "") -> int:
    """Run one command. `called` is what the user called it, if that was a noun and a verb."""
    from docklock.cli.options import HelpWanted

    if command not in COMMANDS:
        from docklock.cli.missing import explain_command
        from docklock.nearest import suggest

        if reason := explain_command(command):
            raise SpecError(f"{command}: {reason}")
        known = [*NOUNS, *(name for name in COMMANDS if " " not in name)]
        raise SpecError(
            f"unknown command {command!r}{suggest(command, known)}; see docklock --help"
        )
    module_name, function_name, _ = COMMANDS[command]
    if command in MENDS:
        mend(paths)
    module = getattr(__import__(f"docklock.cli.{module_name}").cli, module_name)
    try:
        return int(getattr(module, function_name)(argv, paths))
    except HelpWanted as help_text:
        if called:
            from docklock.cli.nouns import rename_help

            print(rename_help(str(help_text), command, called))
        else:
            print(help_text)
        return 0


def mend(paths: Paths) -> bool:
    """Mend every dead run and say so; False if one cannot be now, which keeps nobody waiting."""
    from docklock.repair import repair

    try:
        for container_id in repair(paths):
            print(
                f"docklock: container {container_id[:12]} had lost its supervisor: killed, and "
                "the gap in its evidence signed",
                file=sys.stderr,
            )
    except StateError as error:
        print(f"docklock: {error}", file=sys.stderr)
        return False
    return True


def run(argv: list[str]) -> int:
    """The whole command; the process's exit status."""
    command, called, paths = "", "", None
    try:
        places, rest = split_global(argv)
        if rest and rest[0] in NOUNS:
            from docklock.cli.nouns import find_command, format_noun

            if not rest[1:] or rest[1] in ("--help", "-h", "help"):
                print(format_noun(rest[0], NOUNS[rest[0]], COMMANDS))
                return 0
            called = f"{rest[0]} {rest[1]}"
            rest = [*find_command(rest[0], rest[1], COMMANDS), *rest[2:]]
        if rest and rest[0] in PREPARES:
            from docklock.paths import get_paths
            from docklock.supervisor.launch import prepare

            prepare(get_paths(**places).run)
        if rest[0:1] == ["help"] and rest[1:]:
            return run([*argv[: len(argv) - len(rest)], *rest[1:], "--help"])
        if not rest or rest[0] in ("--help", "-h", "help"):
            print(format_usage())
            return 0 if rest else 2
        if rest[0] == "--version":
            rest = ["version"]
        command = rest[0]
        from docklock.paths import get_paths

        paths = get_paths(**places)
        return dispatch(command, rest[1:], paths, called)
    except DocklockError as error:
        print(f"docklock: {error}", file=sys.stderr)
        code = get_exit_code(command, error)
        record_refusal(paths, argv, command, error, code)
        return code
    except BrokenPipeError:
        return EXIT_NOBODY_READS
    except OSError as error:
        print(f"docklock: {error}{get_hint(error, paths)}", file=sys.stderr)
        code = EXIT_DOCKLOCK_FAILED if command in RUNS_PROGRAMS else 1
        record_refusal(paths, argv, command, error, code)
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def get_hint(error: OSError, paths: Paths | None) -> str:
    """What to do about what the kernel said; nothing where that depends."""
    if isinstance(error, PermissionError):
        return "; docklock needs root"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = error.filename or (paths.state if paths else "--root")
        return f"; the disk is full: free space where {place} is, or choose another --root"
    return ""


def record_refusal(
    paths: Paths | None, argv: list[str], command: str, error: Exception, code: int
) -> None:
    """Have the host log say that a command was refused, if it is one that changes something."""
    if paths is None:
        return
    from docklock.cli.denied import is_change, report_denial

    if is_change(command, argv):
        report_denial(paths, command, error, code)


def get_exit_code(command: str, error: DocklockError) -> int:
    """Docker's 125 for what runs programs, unless the error says 126 or 127; else the error's."""
    if command in RUNS_PROGRAMS and error.exit_code < EXIT_DOCKLOCK_FAILED:
        return EXIT_DOCKLOCK_FAILED
    return error.exit_code


def main() -> None:
    """Entry point `docklock`."""
    import gc

    gc.disable()  # a short life; a supervisor forked from here enables it again
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or EXIT_NOBODY_READS
    os._exit(code)  # taking the interpreter apart takes 5 ms, and nothing of ours waits for it


if __name__ == "__main__":
    main()
