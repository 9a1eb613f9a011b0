"""The states of the users in memory, over the table."""

from collections import defaultdict
from itertools import islice

from streams.errors import BrokenStateError
from streams.state.table import UserTable
from streams.state.user_state import UserState, decode_state


class UserStates:
    """A bounded cache; states that are not stored yet are never let go."""

    def __init__(self, table: UserTable, limit: int) -> None:
        self._table = table
        self._limit = limit
        self._users: dict[int, dict[str, UserState]] = defaultdict(dict)

    def get(self, partition: int, user_id: str) -> UserState | None:
        """Return a user's state, None when there is none.

        Raises:
            BrokenStateError: the store holds bytes that cannot be read.
        """
        state = self._users[partition].get(user_id)
        if state is None and (value := self._table.read(partition, user_id.encode())) is not None:
            state = decode_state(value)
        return state

    def readable(self, partition: int, user_id: str) -> UserState | None:
        """Return a user's state, None also when it cannot be read: the user's next event sets it aside."""
        try:
            return self.get(partition, user_id)
        except BrokenStateError:
            return None

    def stored(self, partition: int, user_id: str) -> bytes | None:
        """Return the bytes in the store, readable or not."""
        return self._table.read(partition, user_id.encode())

    def keep(self, partition: int, user_id: str, state: UserState) -> None:
        """Hold a state in memory, at least until its batches are stored."""
        self._users[partition][user_id] = state

    def drop(self, partition: int, user_id: str) -> None:
        """Let go of one user."""
        self._users[partition].pop(user_id, None)

    def trim(self, partition: int) -> None:
        """Let go of the states held longest, but for those that are not stored yet."""
        users = self._users[partition]
        surplus = len(users) - self._limit // len(self._users)
        if surplus > 0:
            for user_id in [name for name, state in islice(users.items(), 2 * surplus) if not state.in_flight]:
                del users[user_id]

    def partitions(self) -> list[int]:
        """Return those of which users are held in memory."""
        return list(self._users)

    def forget(self, partition: int) -> None:
        """Let go of a partition."""
        self._users.pop(partition, None)

    def __len__(self) -> int:
        return sum(map(len, self._users.values()))
