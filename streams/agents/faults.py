"""an exception -> whose fault it is: a record's, which is then set aside, or that of something no record can help.

One record's failure is a dead letter. A full disk, a Kafka that is away or a partition that has moved end the worker,
which reads the batch again: no record is to pay for them.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException
from rocksdict import DbClosedError

from streams.errors import HeadraceError, RejectedEventError

Wanted = TypeVar("Wanted")
Made = TypeVar("Made")

_NO_RECORDS_FAULT: Final = (HeadraceError, OSError, MemoryError, KafkaError, KafkaException, DbClosedError)


def rejection(exc: Exception) -> RejectedEventError:
    """Return why the record that was under way is set aside; a failure that nobody foresaw is put down to it.

    Raises:
        Exception: the same one, when it is no record's fault.
    """
    if isinstance(exc, RejectedEventError):
        return exc
    if isinstance(exc, _NO_RECORDS_FAULT) or type(exc) is Exception:  # RocksDB's are bare
        raise exc
    return RejectedEventError(
        "unprocessable", f"the worker fails on it ({type(exc).__name__}: {exc}); please report it with the record"
    )


async def made_in_halves(
    make: Callable[[Sequence[Wanted]], Awaitable[Sequence[Made]]], wanted: Sequence[Wanted]
) -> list[Made | RejectedEventError]:
    """Return what is made of each that is wanted, in order; of those that cannot be made, why.

    Args:
        make: makes all of them or fails; on failure it is asked for the first half and for the second.
        wanted: of which it makes one each.
    """
    try:
        return list(await make(wanted))
    except Exception as exc:  # noqa: BLE001 - whatever it is, it costs one of them and no others
        why = rejection(exc)
    if len(wanted) <= 1:
        return [why] * len(wanted)
    middle = len(wanted) // 2
    return [*await made_in_halves(make, wanted[:middle]), *await made_in_halves(make, wanted[middle:])]
