"""`python -m tests.crash --kills 100 --minutes 15 --seed 7 --report FILE`: exits non-zero when anything is lost."""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.acts import ACTS
from tests.crash.campaign import Campaign
from tests.crash.data_faults import small_disk, take_disk_away
from tests.crash.faults import at_random
from tests.crash.report import Report
from tests.crash.roles import Deployment


def main() -> int:
    """Run a campaign and print what it found."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="faults to inject")
    parser.add_argument("--minutes", type=float, default=5.0, help="time to spread them over")
    parser.add_argument("--seed", type=int, default=None, help="which faults when, and which events; random by default")
    parser.add_argument("--rate", type=float, default=150.0, help="events a second")
    parser.add_argument("--only", default="", help="names of faults, with commas between; all by default")
    parser.add_argument("--acts", default=",".join(ACTS), help="what ends the deployment's lives in the end, or none")
    parser.add_argument("--mutant", default=None, help="a defect for the workers, see tests/crash/mutant.py")
    parser.add_argument(
        "--folder", type=Path, default=None, help="for data and logs; the default is kept only when something failed"
    )
    parser.add_argument("--report", type=Path, default=None, help="write the figures as JSON")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else time.time_ns() % 1_000_000
    rng = random.Random(seed)
    names = given.only.split(",") if given.only else []
    faults = iter(lambda: rng.choice(names), None) if names else at_random(rng)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="headrace-crash-"))
    folder.mkdir(parents=True, exist_ok=True)
    if not small_disk(folder):
        print("no full disks: this machine mounts no disk in memory", file=sys.stderr)  # noqa: T201 - for people
    acts = [name for name in given.acts.split(",") if name in ACTS]
    campaign = Campaign(Deployment(folder, mutant=given.mutant), given.rate, seed, acts=acts)
    report = campaign.run(faults, given.kills, given.minutes * 60)
    _show(report)
    if report.ok:
        take_disk_away(folder)
    else:
        print(f"logs and data: {folder}")  # noqa: T201 - for people
    if report.ok and not given.folder:
        shutil.rmtree(folder, ignore_errors=True)
    if given.report:
        given.report.write_text(json.dumps({"seed": seed, "faults": report.faults, **report.figures}, indent=1) + "\n")
    return 0 if report.ok else 1


def _show(report: Report) -> None:
    lines = [("seed", report.seed), *report.faults.items(), *report.figures.items()]
    for name, value in lines:
        print(f"{name:40} {value}")  # noqa: T201 - the table
    for problem in report.problems:
        print(f"FAILED: {problem}")  # noqa: T201 - the verdict
    if report.ok:
        print("ok: every event once, in order, answered and learned")  # noqa: T201 - the verdict


if __name__ == "__main__":
    sys.exit(main())
