"""`python -m adapterkit.demo`, which `make demo` runs."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

# The demo's backbone comes as a package; a model hub is not asked, so that it runs the same everywhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> int:
    """Run the demo; an argument names the folder that it writes into."""

    def lessons() -> object:
        from adapterkit.demo.lessons import FOLDER, run

        return run(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

    return guarded(lessons)


def guarded(act: Callable[[], object]) -> int:
    """The exit status of a demo, whose errors are shown in a line."""
    from rich.console import Console

    from adapterkit.cli.console import show_log

    show_log()  # before what is imported next has anything to log
    from adapterkit.errors import AdapterkitError

    try:
        act()
    except AdapterkitError as error:
        Console(stderr=True).print(f"{type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
