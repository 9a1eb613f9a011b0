#!/bin/sh
# Gives an empty repository its seed version, then serves; the model follows the topic that HEADRACE_BACKEND names.
set -eu
python3 - <<'PYTHON'
import os
from pathlib import Path

from streams.model_repository import ModelRepository, write_seed_version

repository = ModelRepository(Path("/models"), os.environ.get("HEADRACE_TRITON__DEVICE", "cpu"))
repository.write_config()
if repository.newest() is None:
    write_seed_version(repository, os.environ.get("HEADRACE_LEARNER__PRESET", "small"))
PYTHON
exec tritonserver --model-repository=/models --model-control-mode=explicit --load-model=sequence \
  --disable-auto-complete-config --allow-http=false --allow-metrics=true
