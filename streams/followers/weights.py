"""weights -> generations: follow the topic from its beginning and hand over each complete generation.

Runs inside Triton's backend and inside the worker: it takes plain values and imports neither torch nor Faust.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import Message

from engine.generations import Generation, GenerationAssembler
from streams.followers.follower import Follower


class WeightsFollower:
    """Applies generations, in a thread; one that is broken is rejected and counted, and the next one is taken.

    Args:
        client: librdkafka's settings of the connection.
        topic: the topic `weights`.
        slots: which are followed, of `champion` and `challenger`.
        apply: takes a generation; an exception, as WeightsError, rejects it.
        drop: takes the name of a slot that is withdrawn.
        tables: names of the tables wanted, None for all and the dense tensors.
        report: takes a sentence about each rejected record.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topic: str,
        slots: Sequence[str],
        apply: Callable[[Generation], None],
        *,
        drop: Callable[[str], None] = lambda _: None,
        tables: frozenset[str] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.applied = 0
        self.rejected = 0
        self._assemblers = {slot: GenerationAssembler(slot, tables) for slot in slots}
        self._apply = apply
        self._drop = drop
        self._report = report
        self._follower = Follower(client, topic, self._take, report)
        self.start = self._follower.start
        self.check = self._follower.check
        self.stop = self._follower.stop

    def _take(self, message: Message) -> None:
        key = (message.key() or b"").decode(errors="replace")
        slot = key.partition("/")[0]
        if slot not in self._assemblers:
            return
        try:
            generation = self._assemblers[slot].feed(key, message.value())
            if message.value() is None:
                self._drop(slot)
            if generation is not None:
                self._hand_over(slot, generation)
        except Exception as exc:  # noqa: BLE001 - a thread that ended here would leave old weights serving, unseen
            self.rejected += 1
            self._report(f"{message.topic()} at offset {message.offset()} is rejected: {str(exc) or repr(exc)}")

    def _hand_over(self, slot: str, generation: Generation) -> None:
        try:
            self._apply(generation)
        except BaseException:
            self._assemblers[slot].begin_anew()  # what comes next is the difference to one that is not served
            raise
        self.applied += 1
