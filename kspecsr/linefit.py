"""``python -m kspecsr.linefit``: the same as ``kspecsr linefit``."""

import sys

from kspecsr.commands.linefit import main

if __name__ == "__main__":
    sys.exit(main())
