import pytest

from service.api.negotiation import choose_media_type
from service.api.waiting import preferred_wait
from service.errors import NotAcceptable

OFFERS = ("application/json", "text/csv")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("text/csv, application/json", "application/json"),  # equal quality: the first offered
        ("text/csv;q=0.9, application/json;q=0.8", "text/csv"),
        ("*/*;q=0.1, text/csv", "text/csv"),
        ("text/*, application/json;q=0", "text/csv"),
        ("application/json;q=0, */*", "text/csv"),  # the specific range wins over the wider one
        ("text/csv; charset=utf-8", "text/csv"),
    ],
)
def test_the_preferred_media_type_is_chosen(accept: str | None, chosen: str) -> None:
    assert choose_media_type(accept, OFFERS) == chosen


@pytest.mark.parametrize("accept", ["image/png", "text/csv;q=0", "*/*;q=0", "text/csv;q=nonsense"])
def test_nothing_acceptable_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        choose_media_type(accept, OFFERS)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("", None),
        ("respond-async", None),
        ("wait=5", 5),
        ("Wait = 5", 5),
        ('wait="7"', 7),
        ("respond-async, wait=10; x=1", 10),
        ("wait=61", 60),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("await=5", None),
        ("wait=9999999", None),
    ],
)
def test_the_wait_preference_is_read(prefer: str | None, seconds: int | None) -> None:
    assert preferred_wait(prefer) == seconds
