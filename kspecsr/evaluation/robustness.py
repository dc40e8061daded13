"""``python -m kspecsr.evaluation.robustness``: ``kspecsr robustness``, in a clone."""

import sys

from data_pipeline.command_line import from_clone

main = from_clone("benchmarks.robustness")

if __name__ == "__main__":
    sys.exit(main())
