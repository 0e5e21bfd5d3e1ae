"""Folders that go with a test. Their paths are short: a socket's path has at most 107 bytes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any


def folder_for(case: Any) -> Path:
    """A folder that goes with the test."""
    folder = Path(tempfile.mkdtemp()).resolve()
    case.addCleanup(shutil.rmtree, folder)
    return folder
