"""``python tests/tuning_command.py OPTIONS``: the command line of sweeps, with arithmetic for trainings."""

import sys

from tuning import run, sweep
from tuning_sample import arithmetic_job

if __name__ == "__main__":
    sweep.train_job = arithmetic_job
    sys.exit(run.main())
