# ruff: noqa: INP001, S603, S607, T201 - a script beside what it tries, that runs tools and prints
"""Build the images for real without Docker and see a recommendation come out of them: for developers, not for CI.

    sudo .venv/bin/python deploy/try_images.py [FOLDER]

It needs root, `buildah`, `debootstrap`, some 25 GB and a registry of Python packages. The bases are made here and named
as those of the Dockerfiles: Debian 12 for python:3.11-slim and, with the server of the nvidia-pytriton wheel, for
NVIDIA's container. So the steps of both Dockerfiles run as they are; what NVIDIA's own image brings is not tried.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx

from streams.local.local_broker import LocalBroker
from streams.local.processes import Child, free_port

Answer = dict[str, Any]

REPOSITORY: Final = Path(__file__).parents[1]
PYTHON: Final = "docker.io/library/python:3.11-slim"
TRITON: Final = "nvcr.io/nvidia/tritonserver:25.08-py3"
AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"
"""Of this machine, whose network may have its own."""
PACKAGES: Final = "python3,python3-pip,libpython3.11,ca-certificates"
MAX_WORKER_MB: Final = 800
REGION: Final = "headrace-images-"
CHROOT: Final = ("--isolation", "chroot")
IMAGES: Final = {
    "headrace-worker": ("Dockerfile", "worker"),
    "headrace-learner": ("Dockerfile", "learner"),
    "headrace-triton": ("triton.Dockerfile", "triton"),
}


def main(folder: Path) -> None:
    """Build, measure, run.

    Raises:
        SystemExit: a tool is missing, or the images do not do what they should.
    """
    for tool in ("buildah", "debootstrap"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing; apt-get install buildah debootstrap.")
    if os.geteuid():
        sys.exit("This makes root file systems; run it as root.")
    folder.mkdir(parents=True, exist_ok=True)
    make_bases(folder)
    for image, (dockerfile, role) in IMAGES.items():
        build(image, dockerfile, role)
    with ExitStack() as stack:
        containers = {image: stack.enter_context(container(image)) for image in IMAGES}
        sizes = {image: megabytes(name) for image, name in containers.items()}
        base = megabytes(stack.enter_context(container(PYTHON)))
        for image, size in sizes.items():
            print(f"{image:18} {size:6,} MB unpacked, the base is {base} of them")
        if sizes["headrace-worker"] > MAX_WORKER_MB:
            sys.exit(f"The worker's image is larger than {MAX_WORKER_MB} MB.")
        answer = recommendation(folder, containers)
    print("generation {generation} on rung {rung} gives {items}".format_map(answer))


def make_bases(folder: Path) -> None:
    """Make what stands for the base images, once."""
    if not exists(PYTHON):
        root = folder / "debian"
        shutil.rmtree(root, ignore_errors=True)
        done("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
        for left in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale"):
            shutil.rmtree(root / left)
        # As in the official image: `pip install` is allowed.
        (root / "usr/lib/python3.11/EXTERNALLY-MANAGED").unlink()
        shutil.copy(AUTHORITIES, root / AUTHORITIES[1:])
        commit(PYTHON, "scratch", {root: "/"}, {"SSL_CERT_FILE": AUTHORITIES, "PIP_CERT": AUTHORITIES})
    if not exists(TRITON):
        spec = find_spec("pytriton")
        assert spec
        assert spec.origin
        wheel = Path(spec.origin).parent
        server, backend = wheel / "tritonserver", "/opt/tritonserver/backends/python"
        parts = {
            server / "bin": "/opt/tritonserver/bin",
            server / "backends" / "python": backend,
            server / "python_backend_stubs" / "3.11" / "triton_python_backend_stub": f"{backend}/",
            wheel.parent / "nvidia_pytriton.libs": "/opt/tritonserver/lib",
        }
        path = "/opt/tritonserver/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        commit(TRITON, PYTHON, parts, {"PATH": path, "LD_LIBRARY_PATH": "/opt/tritonserver/lib"})


def build(image: str, dockerfile: str, role: str) -> None:
    """Run a Dockerfile as it is."""
    command = ("buildah", "bud", *CHROOT, "--pull-never", "--layers", "-f", f"deploy/{dockerfile}", "-t", image)
    done(*command, "--build-arg", f"ROLE={role}", ".")


@contextmanager
def container(image: str) -> Iterator[str]:
    """Give the name of a container of an image; it is removed."""
    name = done("buildah", "from", "--pull-never", image)
    try:
        yield name
    finally:
        done("buildah", "rm", name)


def recommendation(folder: Path, containers: Mapping[str, str]) -> Answer:
    """Run all three on a local Kafka; return the first list that Triton made with what the learner has learned."""
    api, grpc, probe = free_port(), free_port(), free_port()
    with ExitStack() as stack:
        broker = stack.enter_context(LocalBroker(folder / "kafka", free_port()))
        settings = {
            "HEADRACE_BROKER": broker.address,
            "HEADRACE_TRITON__URL": f"127.0.0.1:{grpc}",
            "HEADRACE_LEARNER__PRESET": "tiny",
            "HEADRACE_LEARNER_METRICS_PORT": "0",
            "HEADRACE_HTTP__PORT": str(api),
            "HEADRACE_TRITON__TIMEOUT_MS": "1000",
            "HEADRACE_SERVING__DEADLINE_MS": "2000",
        }
        ports = (f"--grpc-port={grpc}", f"--http-port={probe}", f"--metrics-port={free_port()}")
        region = f"--backend-config=python,shm-region-prefix-name={REGION}"  # /dev/shm is this machine's
        stack.callback(lambda: [left.unlink() for left in Path("/dev/shm").glob(f"{REGION}*")])  # noqa: S108
        commands = {
            "headrace-triton": ("python3", "-m", "streams.triton.container", *ports, region),
            "headrace-worker": ("headrace", "worker"),
            "headrace-learner": ("headrace", "learner"),
        }
        for image, command in commands.items():
            stack.callback(running(folder, image, containers[image], settings, command).stop)
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{api}", timeout=10))
        until(lambda: fetched(client, "/readyz"))
        return until(lambda: learned(client))


def running(folder: Path, image: str, container_: str, settings: Mapping[str, str], command: tuple[str, ...]) -> Child:
    """Start a role in its image."""
    given = (part for name, value in settings.items() for part in ("--env", f"{name}={value}"))
    return Child(
        image, ["buildah", "run", *CHROOT, *given, container_, "--", *command], log_file=folder / f"{image}.log"
    )


def learned(client: httpx.Client) -> Answer | None:
    """Send events of two users; return the list of one, when it reflects some of them."""
    now = time.time_ns()
    events = [
        {
            "event_id": f"e{now}-{user}-{item}", "user_id": user, "item_id": f"i{item}", "type": "view",
            "timestamp": now // 1_000_000,
        }
        for user in ("u1", "u2")
        for item in range(8)
    ]  # fmt: skip
    client.post("/v1/events", json=events).raise_for_status()
    answer = fetched(client, "/v1/users/u1/recommendations")
    return answer if answer and answer["rung"] == "triton" and answer["generation"] and answer["items"] else None


def fetched(client: httpx.Client, path: str) -> Answer | None:
    """Return what a route answers, None when it cannot yet."""
    try:
        found = client.get(path)
    except httpx.TransportError:
        return None
    return dict(found.json()) if found.is_success else None


def until(get: Callable[[], Answer | None], seconds: float = 180.0) -> Answer:
    """Return the first answer.

    Raises:
        SystemExit: there was none.
    """
    deadline = time.monotonic() + seconds
    while (answer := get()) is None:
        if time.monotonic() > deadline:
            sys.exit(f"No recommendation after {seconds:g} s; see the logs of the roles.")
        time.sleep(0.5)
    return answer


def megabytes(container_: str) -> int:
    """Return what the root of a container takes."""
    root = done("buildah", "mount", container_)
    try:
        return int(done("du", "-sm", root).split()[0])
    finally:
        done("buildah", "umount", container_)


def exists(image: str) -> bool:
    """Whether an image is on this machine."""
    return (
        subprocess.run(["buildah", "inspect", "--type", "image", image], capture_output=True, check=False).returncode
        == 0
    )


def commit(image: str, base: str, parts: Mapping[Path, str], environment: Mapping[str, str]) -> None:
    """Make an image of a base and copied files."""
    name = done("buildah", "from", "--pull-never", base)
    for source, target in parts.items():
        done("buildah", "copy", "--quiet", name, str(source), target)
    for variable in environment.items():
        done("buildah", "config", "--env", "=".join(variable), name)
    done("buildah", "commit", "--quiet", "--rm", name, image)


def done(*command: str) -> str:
    """Return the last line of what a command writes.

    Raises:
        SystemExit: it failed; what it wrote is on the terminal.
    """
    print("+", " ".join(command), flush=True)
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=REPOSITORY)
    if finished.returncode:
        sys.exit(f"{command[0]} failed:\n{finished.stdout}")
    return (finished.stdout.strip().splitlines() or [""])[-1]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".headrace/images").absolute())
