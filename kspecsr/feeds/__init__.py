"""Training examples: fresh from the simulator, or from records. NumPy and SciPy only."""

from kspecsr.feeds.choice import DataChoice, choose_data
from kspecsr.feeds.example import INPUTS, TARGETS, Teacher, check_batch, example_shapes, split_batch
from kspecsr.feeds.records_feed import RecordsFeed, recorded_validation
from kspecsr.feeds.simulated import simulated_examples, validation_examples
from kspecsr.feeds.simulation_feed import SimulationFeed
