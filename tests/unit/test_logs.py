"""Every line of a log has one form, the libraries' own lines too."""

import json
import os
import subprocess
import sys

CODE = """
import logging, structlog
from streams.logs import configure_logs
from streams.settings import LogSettings
configure_logs(LogSettings(format="json"))
structlog.get_logger().info("ours", number=1)
logging.getLogger("aiokafka").warning("cannot reach %s", "node 1")
"""


def test_json_lines_are_json_whoever_writes_them() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=os.environ)
    ours, theirs = map(json.loads, done.stderr.splitlines())
    assert (ours["event"], ours["level"], ours["number"]) == ("ours", "info", 1)
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("cannot reach node 1", "warning", "aiokafka")
    assert ours["timestamp"] <= theirs["timestamp"]
