"""`Accept`: which of the media types on offer the caller prefers.

References:
    RFC 9110, section 12.5.1.
"""

from collections.abc import Sequence

from service.errors import NotAcceptable


def choose_media_type(accept: str | None, offers: Sequence[str]) -> str:
    """Return the offer with the highest quality; among equals the first offered.

    Raises:
        NotAcceptable: none of the offers is accepted.
    """
    ranges = _read_ranges(accept or "*/*")
    weights = [_quality(offer, ranges) for offer in offers]
    best = max(weights)
    if best <= 0:
        raise NotAcceptable(f"this address offers {', '.join(offers)}", offers=list(offers))
    return offers[weights.index(best)]


def _read_ranges(accept: str) -> list[tuple[str, float]]:
    ranges = []
    for entry in accept.split(","):
        media_range, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                quality = _read_quality(value)
        ranges.append((media_range, quality))
    return ranges


def _read_quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def _quality(offer: str, ranges: list[tuple[str, float]]) -> float:
    """Return the quality by the most specific range that matches."""
    for candidate in (offer, offer.partition("/")[0] + "/*", "*/*"):
        for media_range, quality in ranges:
            if media_range == candidate:
                return quality
    return 0.0
