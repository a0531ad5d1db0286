"""Puts `convit_runtime` into wheel and sdist; an sdist holds the files already."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Hook(BuildHookInterface):
    """Called by hatchling before and after a build."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the package's files, where they are not there."""
        self._made = None
        if (Path(self.root) / "convit_runtime").is_dir():
            return
        sys.path.insert(0, self.root)
        from sources import write_runtime

        self._made = Path(tempfile.mkdtemp())
        write_runtime(self._made)
        build_data["force_include"][str(self._made)] = "convit_runtime"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made."""
        if self._made is not None:
            shutil.rmtree(self._made)
