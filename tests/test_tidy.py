"""The house rules, kept by machines: tools first, then checks of our own over the syntax trees.

What a rule means and why is in the assertion's message; the lists below are the only exceptions.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent
ROOMS = ("chainlite", "docklock", "enc", "tui")
BODY_LINES_MAX = 70
MODULE_LINES_MAX = 500
MODULE_NAMES_REFUSED = {"utils", "common", "helpers", "types", "constants", "core"}
CLASS_SUFFIXES_REFUSED = ("Manager", "Engine", "Handler", "Helper", "Service", "Processor")
# Where a broad except is right: the outermost frame of the CLI, of a process, of a TUI worker.
BROAD_EXCEPT_ALLOWED = {
    "docklock/cli/main.py",
    "docklock/enter.py",
    "docklock/supervisor/guard.py",
    "docklock/supervisor/worker.py",
    "tui/reading.py",
    "tui/start.py",
}
# Data, not code: a table is as long as the kernel's.
LONG_MODULES_ALLOWED = {
    "docklock/policy/syscalls_aarch64.py",
    "docklock/policy/syscalls_x86_64.py",
}
# What chainlite.verify may stand on, so that a stranger can take these files and check evidence.
FORMATS = {
    "bpci", "bundle", "checkpoint", "codec", "cosignature", "domains", "economy", "errors",
    "events", "export_frames", "export_report", "exported", "fork", "hostkeys", "hostlog", "keys",
    "lean", "logblock", "merkle", "notarised", "notary_report", "proof", "proofs", "proven",
    "ranged", "receipt", "report", "segment", "sha2", "sodium", "tlogproof", "trust", "verify",
}  # fmt: skip
# Measured: each costs 1 to 30 ms to import, and `docklock run` has 40 ms in all. Instead of some
# there are chainlite.lean, sha2 and sodium, docklock.bare, json_text, evidence.database, waiting.
SLOW_IMPORTS = {
    "argparse", "asyncio", "base64", "contextlib", "dataclasses", "datetime", "enum", "hashlib",
    "inspect", "json", "logging", "msgspec", "nacl.bindings", "pathlib", "re", "selectors",
    "shutil", "signal", "socket", "sqlite3", "subprocess", "tempfile", "threading", "typing",
    "uuid", "yaml",
}  # fmt: skip
RUN_PATH = (
    "docklock.cli.main", "docklock.runtime", "docklock.spec", "docklock.plan", "docklock.enter",
    "docklock.cgroup", "docklock.capture.gate", "docklock.evidence.recorder",
    "docklock.image.store", "docklock.policy.load", "docklock.cli.run", "docklock.cli.attach",
    "docklock.supervisor.launch", "docklock.supervisor.main", "docklock.supervisor.guard",
)  # fmt: skip
SKIPPED_DIRECTORIES = {"__pycache__", "dist", "results"}
# Written in pieces, so that this file does not name what it refuses.
TRACES_REFUSED = tuple(
    "".join(pieces)
    for pieces in (
        ("/work", "/main"), ("/work", "/shared"), ("..", "/shared"), ("/tmp", "/plan"),
        ("/opt", "/pypi"), ("pypi", ".org"), ("python", "hosted"), ("extra-", "index-url"),
    )
)  # fmt: skip


def run_tool(
    module: str, *arguments: str, program: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a development tool (`-m module`, or `program`) from this interpreter.

    Where it is not installed, ./test installs it.
    """
    if importlib.util.find_spec(module) is None:
        assert os.environ.get("CI") != "true", f"{module} is missing, and CI may not skip"
        pytest.skip(f"{module} is not installed here; ./test installs it")
    what = ["-c", program] if program else ["-m", module]
    return subprocess.run(
        [sys.executable, *what, *arguments], cwd=TOP, capture_output=True, text=True
    )


def assert_silent(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


def get_modules() -> list[Path]:
    return sorted(path for room in ROOMS for path in (TOP / room).rglob("*.py"))


def get_name(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


def parse_modules() -> Iterator[tuple[str, ast.Module]]:
    for path in get_modules():
        yield get_name(path), ast.parse(path.read_text(), str(path))


def get_scripts() -> list[str]:
    """The benchmarks: programs without a suffix, which tools do not find by themselves."""
    return [
        get_name(path)
        for path in sorted((TOP / "benchmarks").iterdir())
        if path.is_file() and path.read_bytes().startswith(b"#!")
    ]


def test_ruff_finds_nothing() -> None:
    assert_silent(run_tool("ruff", "check", "--no-cache", "."))


def test_ruff_format_changes_nothing() -> None:
    assert_silent(run_tool("ruff", "format", "--no-cache", "--check", "."))


def test_mypy_strict_holds_in_every_room() -> None:
    assert_silent(run_tool("mypy", "--strict"))


def test_mypy_strict_holds_for_the_benchmarks() -> None:
    for script in get_scripts():
        assert_silent(run_tool("mypy", "--strict", "--scripts-are-modules", script))


def test_imports_go_one_way() -> None:
    done = run_tool(
        "importlinter", program="from importlinter.cli import lint_imports_command as run; run()"
    )
    assert_silent(done)
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", done.stdout), done.stdout


def test_every_dependency_is_declared_and_used() -> None:
    assert_silent(run_tool("deptry", "."))


def test_no_code_is_dead() -> None:
    assert_silent(run_tool("vulture"))


def test_no_locked_dependency_has_a_known_weakness() -> None:
    done = run_tool(
        "pip_audit", "-r", "requirements.lock", "--require-hashes", "--disable-pip",
        "--progress-spinner", "off", "--timeout", "20",
    )  # fmt: skip
    if re.search("Connection|[Tt]imed? ?out|Max retries|ServiceError|HTTP", done.stderr):
        pytest.skip("the database of known weaknesses cannot be reached from here")
    if "could not be audited" in done.stdout + done.stderr:
        pytest.skip("the package registry used here does not serve known weaknesses")
    assert_silent(done)


def test_function_bodies_are_short() -> None:
    long = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in parse_modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.body[0].lineno >= BODY_LINES_MAX
    ]
    assert not long, f"bodies over {BODY_LINES_MAX} lines: {long}"


def test_modules_are_short() -> None:
    long = [
        get_name(path)
        for path in get_modules()
        if len(path.read_text().splitlines()) > MODULE_LINES_MAX
    ]
    assert set(long) <= LONG_MODULES_ALLOWED, f"modules over {MODULE_LINES_MAX} lines"


def test_names_say_what_a_thing_is() -> None:
    modules = [get_name(p) for p in get_modules() if p.stem in MODULE_NAMES_REFUSED]
    classes = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in parse_modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith(CLASS_SUFFIXES_REFUSED)
    ]
    assert not modules + classes


def is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type
    names = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    broad = {"Exception", "BaseException"}
    return caught is None or any(isinstance(n, ast.Name) and n.id in broad for n in names)


def test_broad_excepts_stand_only_at_the_outermost_frame() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in parse_modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and is_broad(node)
        and not any(isinstance(inner, ast.Raise) and inner.exc is None for inner in node.body)
        and name not in BROAD_EXCEPT_ALLOWED
    ]
    assert not found


def get_imports(tree: ast.AST) -> Iterator[str]:
    """Every imported name in full: `from a import b` gives a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_the_kernel_room_imports_ctypes() -> None:
    found = [
        name
        for name, tree in parse_modules()
        if not name.startswith("docklock/kernel/")
        and any(imported.split(".")[0] in {"ctypes", "_ctypes"} for imported in get_imports(tree))
    ]
    assert not found


def test_verify_imports_formats_only() -> None:
    tree = ast.parse((TOP / "chainlite/verify.py").read_text())
    ours = [name.split(".") for name in get_imports(tree) if name.split(".")[0] in ROOMS]
    strange = [name for name in ours if name[0] != "chainlite" or name[1] not in FORMATS]
    assert not strange


def test_relative_imports_are_not_used() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, tree in parse_modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not found


def test_the_run_path_imports_nothing_slow() -> None:
    program = (
        "import importlib, sys\n"
        f"for name in {RUN_PATH!r}: importlib.import_module(name)\n"
        f"print(*sorted({SLOW_IMPORTS!r} & set(sys.modules)))"
    )
    # -S: an interpreter's own .pth files may import what they like.
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=TOP,
        env=os.environ | {"PYTHONPATH": ":".join([str(TOP), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [], "import these where they are needed, not at the top"


def test_every_room_has_a_readme() -> None:
    packages = {path.parent for path in get_modules()}
    bare = [
        get_name(package)
        for package in sorted(packages)
        if [p.name for p in package.glob("*.py")] != ["__init__.py"]
        and not (package / "README.md").is_file()
    ]
    assert not bare


def get_text_files() -> Iterator[tuple[str, str]]:
    for directory, inner, names in os.walk(TOP):
        inner[:] = [
            name
            for name in inner
            if name not in SKIPPED_DIRECTORIES and (name == ".ci" or not name.startswith("."))
        ]
        for path in (Path(directory, name) for name in names):
            if path.is_symlink() or path.parts[-3:-1] == ("tests", "vectors"):
                continue
            try:
                yield get_name(path), path.read_text()
            except UnicodeDecodeError:
                continue


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = [
        f"{name}: {trace}"
        for name, text in get_text_files()
        for trace in TRACES_REFUSED
        if trace in text
    ]
    assert not found


def read_lock(name: str) -> dict[str, str]:
    """The lock's entries: the requirement line without its version marker -> all its text."""
    text = "".join(
        line for line in (TOP / name).read_text().splitlines(keepends=True) if line[0] != "#"
    )
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return {entry.split(" ")[0]: entry for entry in entries}


def test_the_locks_pin_everything_by_hash_and_agree() -> None:
    full, core = read_lock("requirements.lock"), read_lock("requirements-core.lock")
    assert full
    for name, entry in full.items():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9a-z.]+", name), name
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)) >= 1, name
    hashes = {name: set(entry.split()) - {"\\"} for name, entry in full.items()}
    for name, entry in core.items():
        pinned = {word for word in entry.split() if word.startswith("--hash")}
        assert pinned <= hashes[name], f"{name}: the two locks differ"


def test_the_lock_covers_what_pyproject_asks_for() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    wanted += project["build-system"]["requires"]
    names = {re.match(r"[\w.-]+", text).group().lower() for text in wanted}  # type: ignore[union-attr]
    locked = {name.split("==")[0] for name in read_lock("requirements.lock")}
    assert {re.sub(r"[-_.]+", "-", name) for name in names} <= locked
