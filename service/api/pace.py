"""How fast a body must come on average."""

import time
from collections.abc import AsyncIterator

from service.config import Settings
from service.errors import UploadStalled


async def keep_pace(chunks: AsyncIterator[bytes], settings: Settings) -> AsyncIterator[bytes]:
    """Yield the chunks of a body as they come, as long as they come fast enough.

    Raises:
        UploadStalled: fewer than `upload_bytes_per_second` on average, the first `upload_idle_seconds` apart.
    """
    began, received, least = time.monotonic(), 0, settings.upload_bytes_per_second
    async for chunk in chunks:
        received += len(chunk)
        seconds = time.monotonic() - began
        if received < least * (seconds - settings.upload_idle_seconds):
            raise UploadStalled(
                f"{received} bytes of the upload came within {seconds:.0f} s; at least {least} a second are expected",
                received_bytes=received,
                least_bytes_per_second=least,
            )
        yield chunk
