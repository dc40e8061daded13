"""Chatter of TensorFlow's start is held back, and shown where something goes wrong."""

import os

import pytest

from data_pipeline.quiet_start import held_back_stderr


def test_held_back_messages_come_out_when_something_goes_wrong(capfd):
    with held_back_stderr():
        os.write(2, b"chatter")
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="bad"), held_back_stderr():
        os.write(2, b"the reason")
        raise ValueError("bad")
    assert capfd.readouterr().err == "the reason"
