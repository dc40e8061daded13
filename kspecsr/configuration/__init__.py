"""What a model and its training are made of: frozen dataclasses, JSON both ways, presets by name."""

from kspecsr.configuration.model import OBJECT_CLASSES, ModelConfig, SR1Config, SR2Config, ZHeadConfig
from kspecsr.configuration.presets import PRESETS, STAGES, Preset, load_preset
from kspecsr.configuration.training import FeedConfig, LossConfig, TrainingConfig
