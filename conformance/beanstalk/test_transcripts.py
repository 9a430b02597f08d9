"""The recorded stories on a server of their own, step by step: what is recorded is what comes.

What lives here: one test a story. What does not: the stories (crates/proto-beanstalk/testdata),
which the door's own tests play without a network, and how they are played (record.py).
"""

from __future__ import annotations

import functools

import pytest
import record
from conftest import drop_in

STORIES = {story.name: story for story in record.stories([])}


@functools.cache
def original() -> str:
    """The version of the original; empty: another server is asked."""
    return "" if drop_in() else record.version()


@pytest.mark.owns_server
@pytest.mark.parametrize("name", STORIES)
def test_story(name):
    story = STORIES[name]
    if record.is_left_out(story, original()):
        pytest.skip("not asked of this server: see the head of the story")
    _, found = record.played_well(story, drop_in(), "")
    assert not found, "\n".join(found)
