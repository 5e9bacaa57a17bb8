"""What the service answers, as typed values."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from service.errors import PackageMissing
from service.report.columns import Columns

if TYPE_CHECKING:
    import pandas


class _Received(BaseModel):
    """What a newer service adds is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class Prediction(_Received):
    """One head's answer for one region."""

    target: str
    label: str = Field(alias="class")
    probabilities: dict[str, float]
    calibrated: bool
    in_distribution: bool
    demonstration: bool = False
    evidence: str = ""


class RoiResult(_Received):
    """One region: its description, its fused vector in the bundle's order, and the predictions."""

    roi: dict[str, Any]
    features: dict[str, float | None]
    predictions: list[Prediction]


class FeatureVectorResult(_Received):
    """The result of one case."""

    id: str | None = None
    case_id: str | None = None
    model: dict[str, Any]
    rois: list[RoiResult]
    provenance: dict[str, Any]

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the result as a table: one row per region, with the columns of the service's CSV and Parquet.

        Raises:
            PackageMissing: pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415 - an extra of its own
        except ModuleNotFoundError:
            raise PackageMissing("to_pandas() needs pandas: pip install 'radfuse[pandas]'") from None
        document = self.model_dump(by_alias=True)
        columns = Columns.gather([document])
        return pandas.DataFrame(list(columns.rows(document, {})), columns=list(columns.names))
