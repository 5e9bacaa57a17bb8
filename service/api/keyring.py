"""API keys, remembered for a few seconds so that not every request asks the ledger."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from service.ledger import ApiKey, Ledger

# A revoked key, or an expired one, is still accepted for at most this long.
REMEMBER_SECONDS = 5.0
MOST_REMEMBERED = 1024


class KeyRing:
    """Looks keys up in the ledger.

    Valid keys, and that there are keys at all, are remembered for `REMEMBER_SECONDS`. The absence of keys is not:
    the first key closes an open service at once. Unknown keys are not remembered either.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[float, ApiKey]] = OrderedDict()
        self._demanded_until = 0.0

    def any_key(self) -> bool:
        """Return whether a key was ever created, which is when keys are demanded."""
        if self._clock() < self._demanded_until:
            return True
        demanded = self._ledger.has_keys()
        if demanded:
            self._demanded_until = self._clock() + REMEMBER_SECONDS
        return demanded

    def find(self, secret: str) -> ApiKey | None:
        """Return the valid key that has this secret, or None."""
        # Remembered by digest, so that secrets do not stay in memory.
        digest = hashlib.sha256(secret.encode()).digest()
        with self._lock:
            until, key = self._known.get(digest, (0.0, None))
        if key is not None and self._clock() < until:
            return key
        key = self._ledger.authenticate(secret)
        with self._lock:
            self._known.pop(digest, None)
            if key is not None:
                self._known[digest] = (self._clock() + REMEMBER_SECONDS, key)
                while len(self._known) > MOST_REMEMBERED:
                    self._known.popitem(last=False)
        return key
