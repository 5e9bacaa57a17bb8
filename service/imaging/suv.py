"""Standardised uptake values, normalised by body weight, from the activity that a PET image holds.

    SUVbw = activity [Bq/ml] * weight [g] / dose [Bq],

the dose being what was left of the injected one at the moment to which the activity refers. Which moment that is, the
image says (Decay Correction): START, the start of the scan; ADMIN, the injection itself; NONE, the mean time of each
acquisition. Weight, dose and times are never repeated: a refusal names an attribute and no value.

References:
    QIBA Profile FDG-PET/CT 1.13, appendix G (vendor-neutral pseudo-code). DICOM PS3.3 C.8.9.1 (PET series: units,
    decay correction), C.8.9.2 (PET isotope), C.8.9.4.1.5 (mean time of a frame of a decaying radionuclide).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final, Literal, NoReturn, TypeAlias, TypeVar

from pydicom import uid
from pydicom.valuerep import DA, DT, TM

from service.errors import SuvUnknown
from service.imaging.dataset import PARSER_ERRORS, read_class

Suv: TypeAlias = Literal["bw"]
Private: TypeAlias = tuple[int, str, int]  # group, creator, element

UNITS: Final = ("BQML", "CNTS", "GML")
DECAY: Final = ("START", "ADMIN", "NONE")
BY_WEIGHT: Final = ("", "BW")  # the type of an SUV that is not stated is this one
TRACERS: Final = "RadiopharmaceuticalInformationSequence"
GE_SCAN_TIME: Final = (0x0009, "GEMS_PETD_01", 0x0D)
PHILIPS_SUV_FACTOR: Final = (0x7053, "Philips PET Private Group", 0x00)
PHILIPS_ACTIVITY_FACTOR: Final = (0x7053, "Philips PET Private Group", 0x09)
LEAST_DOSE_BQ: Final = 1e5  # what is smaller was not written in becquerel
HEAVIEST_KG: Final = 1000.0
MOST_HALF_LIVES: Final = 10.0  # between injection and scan: times farther apart do not belong together

T = TypeVar("T")


@dataclass(frozen=True)
class Tracer:
    """What was injected, and the times that one slice gives.

    Attributes:
        dose_bq: as injected.
        half_life_s: of the radionuclide.
        decay: START, ADMIN or NONE.
        injected: when; a time of day where the file gives no date.
        series: date and time of the series.
        acquired: start of the slice's acquisition.
        scanned: start of the scan as the slice lets it be derived, where it does.
        mean: mean time of the slice's acquisition, where it lets that be derived.
    """

    dose_bq: float
    half_life_s: float
    decay: str
    injected: datetime | time
    series: datetime
    acquired: datetime
    scanned: datetime | None
    mean: datetime | None


@dataclass(frozen=True)
class Uptake:
    """How the values of one slice become SUV.

    Attributes:
        basis: what the file holds, in words.
        grams: SUV times Bq per value; SUV per value where there is no tracer.
        tracer: None where the file itself tells the factor.
    """

    basis: str
    grams: float
    tracer: Tracer | None = None


def read_uptake(dataset: Any) -> Uptake:
    """Read how a PET image's values become SUV by body weight.

    Raises:
        SuvUnknown: no single-frame PET image, an attribute is missing or impossible, or units, corrections or a type
            of SUV that cannot be converted.
    """
    if read_class(dataset) != uid.PositronEmissionTomographyImageStorage:
        raise SuvUnknown("got an enhanced multi-frame PET image; SUV is computed for single-frame ones")
    units = _text(dataset, "Units")
    if units not in UNITS:
        raise SuvUnknown(f"the attribute Units names another unit than {', '.join(UNITS)}", attribute="Units")
    if units == "GML":
        if str(dataset.get("SUVType") or "").strip() not in BY_WEIGHT:
            raise SuvUnknown("the image holds SUV that are not normalised by body weight", attribute="SUVType")
        return Uptake("units GML, which are SUV by body weight already", 1.0)
    decay = _text(dataset, "DecayCorrection")
    _check_corrected(dataset, decay)
    scale = 1.0
    if units == "CNTS":
        factor = _private(dataset, PHILIPS_SUV_FACTOR, float)
        if factor:
            return Uptake("units CNTS and Philips' own SUV factor", _positive(factor, "SUV scale factor"))
        scale = _positive(_private(dataset, PHILIPS_ACTIVITY_FACTOR, float), "activity concentration scale factor")
    weight_kg = _number(dataset, "PatientWeight", 0, HEAVIEST_KG)
    return Uptake(f"units {units}, decay correction {decay}", scale * weight_kg * 1000, _read_tracer(dataset, decay))


def compute_factors(uptakes: Sequence[Uptake]) -> list[float]:
    """Return what the values of each slice of a series must be multiplied by.

    The start of the scan is the series' time; where some acquisition began before it, that time is of a later
    processing, and what the slices themselves tell of the start is taken.

    Raises:
        SuvUnknown: the start cannot be told, or injection and scan do not belong together.
    """
    start = _find_start([one.tracer for one in uptakes if one.tracer])
    return [one.grams / _dose_left(one.tracer, start) if one.tracer else one.grams for one in uptakes]


def _find_start(tracers: Sequence[Tracer]) -> datetime | None:
    if any(one.decay != "START" for one in tracers) or not tracers:
        return None
    series = min(one.series for one in tracers)
    if series <= min(one.acquired for one in tracers):
        return series
    told = [one.scanned for one in tracers if one.scanned is not None]
    if len(told) < len(tracers):
        raise SuvUnknown(
            "the series' time is after its acquisition, so it is not the start of the scan, and neither GE's scan time "
            "nor FrameReferenceTime with ActualFrameDuration tell that start",
            attribute="SeriesTime",
        )
    return min(told)


def _dose_left(tracer: Tracer, start: datetime | None) -> float:
    """Return the dose in Bq at the moment to which the values refer."""
    if tracer.decay == "ADMIN":
        return tracer.dose_bq
    moment = start if tracer.decay == "START" else tracer.mean
    if moment is None:
        raise SuvUnknown(
            "without decay correction ActualFrameDuration is needed, and it is missing", attribute="ActualFrameDuration"
        )
    half_lives = (moment - _injection(tracer, moment)).total_seconds() / tracer.half_life_s
    if not 0 <= half_lives <= MOST_HALF_LIVES:
        raise SuvUnknown(
            f"by its dates the scan began before the injection or more than {MOST_HALF_LIVES:g} half-lives after it",
            attribute="RadiopharmaceuticalStartDateTime",
        )
    return float(tracer.dose_bq * 2**-half_lives)


def _injection(tracer: Tracer, moment: datetime) -> datetime:
    """Return when was injected; a bare time of day is the last one before the scan, which may have crossed midnight."""
    if isinstance(tracer.injected, datetime):
        return tracer.injected
    same_day = datetime.combine(moment.date(), tracer.injected)
    return same_day if same_day <= moment else same_day - timedelta(days=1)


def _read_tracer(dataset: Any, decay: str) -> Tracer:
    items = _read(TRACERS, lambda: list(dataset[TRACERS].value))
    if len(items) != 1:
        _refuse(TRACERS, "does not hold exactly one item")
    half_life = _number(items[0], "RadionuclideHalfLife", 0, math.inf)
    acquired = _moment(dataset, "AcquisitionDate", "AcquisitionTime")
    mean_s = _mean_seconds(dataset, half_life)
    return Tracer(
        dose_bq=_number(items[0], "RadionuclideTotalDose", LEAST_DOSE_BQ, math.inf),
        half_life_s=half_life,
        decay=decay,
        injected=_read_injection(items[0], dataset),
        series=_moment(dataset, "SeriesDate", "SeriesTime"),
        acquired=acquired,
        scanned=_read_scan_start(dataset, acquired, mean_s),
        mean=None if mean_s is None else acquired + timedelta(seconds=mean_s),
    )


def _read_injection(item: Any, dataset: Any) -> datetime | time:
    keyword = "RadiopharmaceuticalStartDateTime"
    if item.get(keyword):
        return _read(keyword, lambda: _local(DT(str(item[keyword].value)), dataset))
    keyword = "RadiopharmaceuticalStartTime"
    text = _text(item, keyword)
    return _read(keyword, lambda: _time(text))


def _read_scan_start(dataset: Any, acquired: datetime, mean_s: float | None) -> datetime | None:
    """Return GE's private scan time, or what frame reference time and mean time of the acquisition give."""
    told = _private(dataset, GE_SCAN_TIME, str)
    if told:
        return _read("the scan time of GE", lambda: _local(DT(told), dataset))
    if mean_s is None or not dataset.get("FrameReferenceTime"):
        return None
    reference_s = _number(dataset, "FrameReferenceTime", 0, math.inf) / 1000
    return acquired + timedelta(seconds=mean_s - reference_s)


def _mean_seconds(dataset: Any, half_life_s: float) -> float | None:
    """Return when, within its acquisition, the activity of a slice was at its mean."""
    if not dataset.get("ActualFrameDuration"):
        return None
    decays = math.log(2) * _number(dataset, "ActualFrameDuration", 0, math.inf) / 1000 / half_life_s
    return half_life_s / math.log(2) * math.log(decays / -math.expm1(-decays))


def _check_corrected(dataset: Any, decay: str) -> None:
    if decay not in DECAY:
        _refuse("DecayCorrection", f"is none of {', '.join(DECAY)}")
    done = dataset.get("CorrectedImage") or ()
    corrected = {done} if isinstance(done, str) else set(done)
    if "ATTN" not in corrected:
        _refuse("CorrectedImage", "does not list the correction for attenuation (ATTN)")
    if ("DECY" in corrected) != (decay != "NONE"):
        _refuse("CorrectedImage", "and DecayCorrection contradict each other")


def _moment(dataset: Any, date_keyword: str, time_keyword: str) -> datetime:
    day, clock = _text(dataset, date_keyword), _text(dataset, time_keyword)
    return datetime.combine(_read(date_keyword, lambda: _date(day)), _read(time_keyword, lambda: _time(clock)))


def _date(text: str) -> date:
    day = DA(text)
    return date(day.year, day.month, day.day)


def _time(text: str) -> time:
    clock = TM(text)
    return time(clock.hour, clock.minute, clock.second, clock.microsecond)


def _local(moment: Any, dataset: Any) -> datetime:
    """Return a date and time on the clock that the file's other dates and times are of."""
    zone = dataset.get("TimezoneOffsetFromUTC")
    if moment.tzinfo is not None and zone:
        moment = moment.astimezone(DT(f"20000101000000{zone}").tzinfo)
    return datetime.combine(moment.date(), moment.time())


def _text(dataset: Any, keyword: str) -> str:
    text = _read(keyword, lambda: str(dataset.get(keyword) or "").strip())
    if not text:
        _refuse(keyword, "is missing")
    return text


def _number(dataset: Any, keyword: str, above: float, below: float) -> float:
    """Return a number that must lie above one bound and below another."""
    text = _text(dataset, keyword)
    number = _read(keyword, lambda: float(text))
    if not above < number < below:
        _refuse(keyword, f"is not a number above {above:g}" + (f" and below {below:g}" if below < math.inf else ""))
    return number


def _private(dataset: Any, where: Private, convert: Callable[[str], T]) -> T | None:
    """Return a vendor's own attribute; None where it is not there."""
    group, creator, element = where
    name = f"({group:04X},xx{element:02X}) of {creator}"

    def look() -> T | None:
        try:
            value = dataset.private_block(group, creator)[element].value
        except KeyError:
            return None
        text = value.decode("ascii") if isinstance(value, bytes) else str(value)
        return convert(text.strip(" \0"))

    return _read(name, look)


def _positive(factor: float | None, name: str) -> float:
    if factor is None:
        raise SuvUnknown(f"the units are CNTS, and Philips' {name} is missing", attribute=name)
    if not 0 < factor < math.inf:
        _refuse(name, "is not positive")
    return factor


def _read(name: str, look: Callable[[], T]) -> T:
    """Read an attribute, whose content may be anything."""
    try:
        return look()
    except PARSER_ERRORS:
        _refuse(name, "is missing or malformed")


def _refuse(name: str, reason: str) -> NoReturn:
    raise SuvUnknown(f"the attribute {name} {reason}", attribute=name) from None
