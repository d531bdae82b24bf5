"""The ``demist`` command."""

import sys


def main() -> None:
    """Run the command line and leave with its verdict."""
    from demist_app.cli.run import run

    sys.exit(run(sys.argv[1:]))


if __name__ == '__main__':
    main()
