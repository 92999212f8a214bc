"""``python -m erase_core`` is the command `erase`."""

from erase_core.cli.app import main

if __name__ == "__main__":
    main()
