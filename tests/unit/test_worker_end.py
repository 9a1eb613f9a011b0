"""A worker that was told to end does end, whatever a library's tasks do."""

import signal
import subprocess
import sys

CODE = """
import asyncio
from types import SimpleNamespace
from streams import worker

async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

class App:
    crash_reason = None
    async def start(self):
        self.task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        print("started", flush=True)
    async def stop(self): pass
    async def wait_until_stopped(self):
        await asyncio.Event().wait()

worker.create_app = lambda *_: SimpleNamespace(app=App())
asyncio.run(worker._run(None, 1))
"""


def test_a_task_that_swallows_its_cancellation_does_not_keep_the_worker() -> None:
    process = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
