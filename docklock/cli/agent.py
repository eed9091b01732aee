"""`docklock agent`: options and the file of settings. The agent itself: docklock/agent."""

from __future__ import annotations

import gc
import os
from typing import Any

from docklock.agent.config import FILE_DEFAULT, Settings
from docklock.agent.config_file import read_config
from docklock.cli import options
from docklock.cli.options import Command, check_count, flag, text
from docklock.paths import Paths

AGENT = Command(
    "agent",
    "[OPTIONS]",
    "Keep containers as their policies say. Containers run without it, and go on without it.",
    (
        text("--socket", help="serve on this path (RUN/agent.sock)", metavar="PATH"),
        text("--config", help=f"read this file ({FILE_DEFAULT}, if it is there)", metavar="FILE"),
        flag("--ask-mend", help="have docklock-mend.path of systemd mend, not a child"),
        flag("--check-config", help="check the file, say OK or what is wrong, and end"),
    ),
    examples=(
        "docklock agent --check-config",
        "docklock agent --config agent.toml",
    ),
)


def run_agent(argv: list[str], paths: Paths) -> int:
    """`docklock agent`: until a signal ends it; 1 if another agent has the root."""
    values, words = options.parse(AGENT, argv)
    check_count(AGENT, words, 0, 0)
    if values["check_config"]:
        read_settings(values)
        print("OK")
        return 0
    from docklock.agent import main

    gc.enable()  # it lives longer than a command
    is_asking = values["ask_mend"]
    return main.run_agent(paths, lambda: read_settings(values), is_asking=is_asking)


def read_settings(values: dict[str, Any]) -> Settings:
    """The file's settings, and over them the options. SpecError."""
    settings = read_config(values["config"])
    if values["socket"]:
        settings = settings._replace(socket=os.path.abspath(values["socket"]))
    return settings
