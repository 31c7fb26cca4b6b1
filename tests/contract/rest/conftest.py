"""Tests that ask for ``serving`` run twice: by the lane, and everything the ordinary way."""

from __future__ import annotations

import functools

import pytest

from tests.contract.rest import running


@pytest.fixture(params=["lane", "ordinary"])
def serving(request: pytest.FixtureRequest) -> running.Serving:
    return functools.partial(running.serving, lane=request.param == "lane")
