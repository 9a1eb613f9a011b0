"""Every alert is seen to fire, to stop, and to be silent where nothing is wrong (alerts_test.yaml, under promtool)."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

CASES = Path(__file__).with_name("alerts_test.yaml")
RULES = CASES.parents[2] / "deploy" / "alerts.yaml"


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is of Debian's package prometheus")
def test_the_rules_do_what_their_cases_say() -> None:
    done = subprocess.run(["promtool", "test", "rules", CASES], capture_output=True, text=True, check=False)  # noqa: S607
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for asked in case["alert_rule_test"]:
            seen[bool(asked["exp_alerts"])].add(asked["alertname"])
    assert seen[True] == seen[False] == {rule["alert"] for rule in rules()}


def test_no_rule_names_a_job_which_only_one_deployment_has() -> None:
    """Issue 10, C.2: WorkerMissing asked for a job that only compose has."""
    assert not [rule["alert"] for rule in rules() if "job" in rule["expr"]]
