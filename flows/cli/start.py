"""Entry point of ``surd``: Ctrl-C is one line from the first moment on, also while modules are being imported."""

import sys


def main() -> None:
    """Import and run the command line."""
    try:
        from surd.flows.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
