"""Whether what was fetched is still this worker's to handle: asked before anything is folded or sent."""

from collections.abc import Callable

from streams.kafka.lease import Lease


class Ownership:
    """The consumer group's generation and the lease, for all who read partitions and write for their users."""

    def __init__(self, lease: Lease, generation: Callable[[], int]) -> None:
        self._lease = lease
        self.generation = generation
        """Returns the consumer group's generation: it changes when partitions may have moved."""
        self._ending = False
        self._revoked_in: int | None = None
        """The generation in which partitions were taken away: until the next are known it is still the group's."""

    def may_begin(self, generation: int) -> bool:
        """Tell whether a batch that was fetched in a generation may be begun; if not, it will be read again."""
        now = self.generation()
        return not self._ending and self._revoked_in != now and generation == now

    def lasts(self, generation: int) -> bool:
        """Tell whether a batch that was begun in a generation may still be stored and answered."""
        return generation == self.generation()

    def check_lease(self) -> None:
        """Make sure that the worker has been running.

        Raises:
            LeaseLapsedError: it has not, and its partitions may have moved.
        """
        self._lease.check()

    def on_revoked(self) -> None:
        """Begin nothing more in this generation."""
        self._revoked_in = self.generation()

    def on_assigned(self) -> None:
        """Begin again."""
        self._revoked_in = None

    def end(self) -> None:
        """Begin nothing more: the worker is about to end."""
        self._ending = True
