"""A real Triton server on this machine, out of the nvidia-pytriton wheel: laid out, started, watched, restarted."""

import hashlib
import json
import os
import secrets
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import structlog
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from streams.errors import StartError
from streams.folder_lock import take_lock
from streams.local.processes import GRACE_SECONDS, Child, blot_out, free_port, is_listening, keep_running, stop_signals
from streams.triton.model_repository import MODEL, ModelRepository
from streams.triton.scorer import channel_options, inputs
from streams.triton.server import CONTROL_KEY, RESTRICTED

log = structlog.get_logger()

HOST: Final = "127.0.0.1"
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where the kernel keeps it
BACKEND: Final = Path(__file__).parents[2] / "model_repo" / "backends" / "headrace" / "model.py"
PROBE_SECONDS: Final = 2.0
LATE_PROBES: Final = 3
"""A dead stub fails a probe; a busy machine makes it late. Only so many late ones in a row mean a stuck server."""
_TOKEN: Final = "TRITON_CONTROL_TOKEN"  # noqa: S105 - the name of a variable


class LocalTriton:
    """Starts, watches and stops the server; loads a new version when one appears.

    Args:
        folder: holds the backends and the log.
        repository: the versions; it must hold one.
        port: of gRPC, on the loopback address.
        metrics_port: of Triton's own metrics; any free one by default.
        backend: what HEADRACE_BACKEND tells the backend: `consumer`, `topic`; empty follows nothing.
        control_token: opens the model-control API; unknown to anybody by default.
    """

    name = "Triton"

    def __init__(
        self,
        folder: Path,
        repository: ModelRepository,
        port: int,
        *,
        metrics_port: int | None = None,
        backend: Mapping[str, Any] | None = None,
        control_token: str | None = None,
    ) -> None:
        self.folder = folder
        self.port = port
        self._repository = repository
        self._metrics_port = metrics_port or free_port()
        self._backend = dict(backend or {})
        self._token = control_token or secrets.token_hex(16)
        # Regions of a server that was killed are found by the folder's part of the name.
        self._region = f"headrace-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}-"
        self._child: Child | None = None
        self._client: triton.InferenceServerClient | None = None
        self._lock: int | None = None
        self._loaded: int | None = None
        self._late = 0

    @property
    def address(self) -> str:
        """host:port for gRPC clients."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the server's process, None when it was not started."""
        return self._child.pid if self._child else None

    def start(self, deadline_seconds: float = 60.0) -> None:
        """Return when the model answers.

        Raises:
            StartError: no server, no version, a busy port, a folder in use, or no answer in time.
        """
        self._take_folder()
        try:
            self._refuse_busy_port()
            self._lay_out()
            while not self._launch(deadline_seconds):
                pass
        except BaseException:
            self.stop()
            raise

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """End the server and what it left in shared memory."""
        if self._client:
            self._client.close()
            self._client = None
        if self._child:
            self._child.stop(grace_seconds)
            self._child = None
            self._remove_regions()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def healthy(self) -> bool:
        """Whether a real inference is answered in time; also load the newest version when it is not loaded yet.

        The server's own health stays good when the process of the model is dead.
        """
        if not self._child or not self._child.running:
            return False
        try:
            self._probe()
        except InferenceServerException as exc:
            self._late += 1
            log.warning("triton-probe-failed", why=str(exc)[:200], late=self._late)
            return "Deadline Exceeded" in str(exc) and self._late < LATE_PROBES
        self._late = 0
        self._load_newest()
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _take_folder(self) -> None:
        if self._lock is not None:
            return
        lock = take_lock(self.folder / "triton.lock")
        if lock is None:
            raise StartError(f"A Triton is already running on {self.folder}; use it, or stop it.")
        self._lock = lock

    def _refuse_busy_port(self) -> None:
        for port in (self.port, self._metrics_port):
            if is_listening(HOST, port):
                raise StartError(
                    f"Port {port} is in use; stop what listens there or set another port in HEADRACE_TRITON__URL."
                )

    def _lay_out(self) -> None:
        """Put the backends together: copies, because a python-based backend rejects links."""
        self._repository.write_config()
        wheel = _wheel() / "tritonserver"
        stub = wheel / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
        backends = self.folder / "backends"
        shutil.rmtree(backends, ignore_errors=True)
        shutil.copytree(wheel / "backends" / "python", backends / "python")
        shutil.copy(stub / "triton_python_backend_stub", backends / "python")
        (backends / "headrace").mkdir()
        shutil.copy(BACKEND, backends / "headrace")

    def _launch(self, deadline_seconds: float) -> bool:
        """Start the server on the newest version; a version that does not load is set aside, and False returned."""
        self._loaded = self._repository.newest()
        if self._loaded is None:
            raise StartError(f"{self._repository.path} holds no version of the model; `headrace up` makes one.")
        self._remove_regions()
        self._child = child = Child(
            self.name, self._command(), log_file=self.folder / "triton.log", environment=self._environment()
        )
        self._client = self._connect()
        try:
            child.wait_until(lambda: bool(child.output()), deadline_seconds)  # so it has read its arguments
            blot_out(child.pid, self._token)
            child.wait_until(self._answers, deadline_seconds)
        except StartError:
            if f"failed to load '{MODEL}' version {self._loaded}" not in child.output():
                raise
            log.error("version-rejected", version=self._loaded, log_file=str(child.log_file))  # noqa: TRY400 - see log
            self._repository.set_aside(self._loaded)
            self._client.close()
            return False
        return True

    def _connect(self) -> triton.InferenceServerClient:
        return triton.InferenceServerClient(self.address, channel_args=channel_options())

    def _command(self) -> list[str]:
        region = f"{self._region}{secrets.token_hex(3)}"
        return [
            # The shell adds the last argument, so that no process but the server itself ever has the token in its own.
            *("/bin/sh", "-c", f'exec "$0" "$@" "--grpc-restricted-protocol={RESTRICTED}:{CONTROL_KEY}=${_TOKEN}"'),
            str(_wheel() / "tritonserver" / "bin" / "tritonserver"),
            f"--model-repository={self._repository.path}",
            f"--backend-directory={self.folder / 'backends'}",
            "--model-control-mode=explicit",
            f"--load-model={MODEL}",
            "--disable-auto-complete-config",
            "--strict-readiness=false",
            "--exit-timeout-secs=5",
            "--allow-http=false",
            f"--grpc-address={HOST}",
            f"--grpc-port={self.port}",
            f"--metrics-address={HOST}",
            f"--metrics-port={self._metrics_port}",
            "--metrics-config=summary_latencies=true",
            f"--backend-config=python,shm-region-prefix-name={region}",
        ]

    def _environment(self) -> dict[str, str]:
        libraries = _wheel().parent / "nvidia_pytriton.libs"
        return {
            **os.environ,
            # The stub takes the first python on the path and ignores PYTHONPATH.
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            # Without the folder of libpython the server hangs and is never ready.
            "LD_LIBRARY_PATH": f"{libraries}:{sysconfig.get_config_var('LIBDIR')}",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "HEADRACE_BACKEND": json.dumps(self._backend),
            _TOKEN: self._token,
        }

    def _answers(self) -> bool:
        if not is_listening(HOST, self.port):
            return False
        with suppress(InferenceServerException):
            self._probe()
            return True
        return False

    def _probe(self) -> None:
        assert self._client
        empty = np.zeros(0, np.int32)
        request = inputs(empty, empty.astype(np.uint8), empty.astype(np.int64), np.zeros(1, np.int32), 1)
        self._client.infer(MODEL, request, client_timeout=PROBE_SECONDS)

    def _load_newest(self) -> None:
        newest = self._repository.newest()
        if newest is None or newest == self._loaded:
            return
        assert self._client
        try:
            self._client.load_model(MODEL, headers={f"triton-grpc-protocol-{CONTROL_KEY}": self._token})
        except InferenceServerException as exc:
            if newest != self._repository.newest():
                return  # the server takes what is newest by then, and even that may be gone again: next time
            log.error("version-rejected", version=newest, why=str(exc)[:300])  # noqa: TRY400 - the reason is enough
            self._repository.set_aside(newest)
            return
        self._loaded = newest
        log.info("version-loaded", version=newest)

    def _remove_regions(self) -> None:
        for region in SHARED_MEMORY.glob(f"{self._region}*"):
            region.unlink(missing_ok=True)


def run_triton(server: LocalTriton) -> None:
    """Run the server until SIGTERM or SIGINT, restarting it when it does not answer.

    Raises:
        StartError: it cannot run; one sentence.
    """
    with stop_signals() as stop:
        keep_running(server, stop)


def _wheel() -> Path:
    found = find_spec("pytriton")  # found, not imported: that costs a second
    if not found or not found.origin:
        raise StartError("No Triton server here; `pip install 'headrace[local]'`, or name one in HEADRACE_TRITON__URL.")
    return Path(found.origin).parent
