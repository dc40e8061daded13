"""``python -m kspecsr.benchmark``: the same as ``python -m benchmarks``, in a clone."""

import sys

from data_pipeline.command_line import from_clone

main = from_clone("benchmarks.__main__")

if __name__ == "__main__":
    sys.exit(main())
