"""Read agent.toml. Not here: what it may say (config)."""

from __future__ import annotations

import os

from chainlite.errors import SpecError
from chainlite.toml_lines import FILE_BYTES_MAX
from docklock.agent.config import FILE_DEFAULT, Settings, parse_config


def read_config(named: str | None) -> Settings:
    """The settings of the file that --config names, else of the default file if it is there.

    SpecError for a file that is wrong, or was named and is not there.
    """
    path = named or FILE_DEFAULT
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        if named:
            raise SpecError(f"--config {path}: no such file") from None
        return Settings()
    return parse_config(data, path)._replace(file=os.path.abspath(path))
