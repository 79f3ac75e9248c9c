"""The long form of tests that are quick otherwise: where HUMANSD_LONG_TESTS=1 asks for it."""

import os

import pytest

LONG = os.environ.get("HUMANSD_LONG_TESTS") == "1"
long_test = pytest.mark.skipif(not LONG, reason="HUMANSD_LONG_TESTS=1 asks for it")
