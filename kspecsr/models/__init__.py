"""The three stages as functional Keras models, and their composition."""

from kspecsr.models.composed import compose
from kspecsr.models.sr1 import RECORD_UNIT, build_sr1
from kspecsr.models.sr2 import build_sr2
from kspecsr.models.zhead import build_zhead, redshift_bins, redshift_step

# stage -> function that builds its network from a `ModelConfig`
BUILDERS = {"sr1": build_sr1, "zhead": build_zhead, "sr2": build_sr2}
