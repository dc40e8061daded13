"""``python -m kspecsr.evaluation.identical_networks``: ``kspecsr identical-networks``, in a clone."""

import sys

from data_pipeline.command_line import from_clone

main = from_clone("benchmarks.identical_networks")

if __name__ == "__main__":
    sys.exit(main())
