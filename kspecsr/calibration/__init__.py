"""What turns the networks' stated uncertainties into ones that hold: measured on galaxies of their own."""

from kspecsr.calibration.calibration import (
    CALIBRATION_FILE,
    Calibration,
    ErrorScale,
    read_calibration,
    write_calibration,
)

__all__ = ["CALIBRATION_FILE", "Calibration", "ErrorScale", "read_calibration", "write_calibration"]
