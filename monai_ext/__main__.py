"""``python -m monai_ext``."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run a command; errors end in one sentence (a traceback with ``--debug``)."""
    from monai_ext.allocator import keep_freed_memory
    from monai_ext.console import tidy_console
    from monai_ext.error_report import DEBUG_VARIABLE, install_error_report

    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ[DEBUG_VARIABLE] = "1"
    install_error_report()
    tidy_console()
    keep_freed_memory()
    from monai_ext.cli.app import app

    app()


if __name__ == "__main__":
    main()
