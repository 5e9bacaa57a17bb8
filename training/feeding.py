"""Bring batches to the step before it asks for them: crops are read, and on the CPU viewed, one step ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from time import perf_counter
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Made = TypeVar("Made")


class Feed(Generic[Asked, Made]):
    """The results of `make`, in order, made in another thread while the caller works on the ones before.

    Args:
        asked: what to make each from.
        make: called in one thread, one after the other.
        ahead: how many results may lie ready.
    """

    def __init__(self, asked: Iterable[Asked], make: Callable[[Asked], Made], ahead: int = 2) -> None:
        self.waited_seconds = 0.0
        self._asked, self._make, self._ahead = asked, make, ahead

    def __iter__(self) -> Iterator[Made]:
        """Yield each result as soon as it is made; what the caller waits is added up in `waited_seconds`."""
        coming, rest = deque[Future[Made]](), iter(self._asked)
        with ThreadPoolExecutor(1, thread_name_prefix="feed") as thread:
            coming.extend(thread.submit(self._make, each) for each in islice(rest, self._ahead))
            while coming:
                start = perf_counter()
                made = coming.popleft().result()
                self.waited_seconds += perf_counter() - start
                coming.extend(thread.submit(self._make, each) for each in islice(rest, 1))
                yield made
