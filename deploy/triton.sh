#!/bin/sh
# Gives an empty repository its seed version, then serves; the model follows the topic that HEADRACE_BACKEND names.
# Arguments go to tritonserver, as --grpc-use-ssl=true does.
set -eu
python3 - <<'PYTHON'
import os
from pathlib import Path

from streams.triton.model_repository import ModelRepository, write_seed_version

repository = ModelRepository(Path("/models"), os.environ.get("HEADRACE_TRITON__DEVICE", "cpu"))
repository.write_config()
if repository.newest() is None:
    write_seed_version(repository, os.environ.get("HEADRACE_LEARNER__PRESET", "small"))
PYTHON
# Strangers may ask for lists, and not load models, map memory or name files: what has no token set gets one nobody knows.
token=${HEADRACE_TRITON__CONTROL_TOKEN:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
exec tritonserver --model-repository=/models --model-control-mode=explicit --load-model=sequence \
  --disable-auto-complete-config --allow-http=false --allow-metrics=true \
  "--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:headrace-control=$token" "$@"
