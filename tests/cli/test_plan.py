"""`convit plan` prints what `convit.scale.planning` calculates."""

import json
from collections.abc import Callable

from tests.cli.conftest import Run


def test_the_command(convit: Callable[..., Run]) -> None:
    found = json.loads(convit("plan", "--images", "1e9", "--cores", 1000).out)
    assert (found["images"], found["cores"]) == (10**9, 1000)
    assert (found["model"], found["bottleneck"]) == ("convit_base", "model")
    shown = convit("plan", "--images", "1e6", "--model", "convit_tiny", terminal={"out"}).out
    assert "calculated, not measured" in shown
    assert "1,000,000, 110.00 GB to read" in shown
    assert convit("plan", "--images", "0.5").code == 2
    convit("plan", "--images", "1", "--model", "convit_bas").fails("there is no model 'convit_bas'")
