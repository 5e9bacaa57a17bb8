"""The Python client: one case in, its features and predictions out.

    with Client("http://127.0.0.1:8080", key="...") as client:
        result = client.extract(Path("image.nii.gz"), Path("mask.nii.gz"), roi="1")
        print(result.rois[0].features["original_shape_MeshVolume"])

`AsyncClient` offers the same to be awaited. Files are streamed, under names of the client's own: file names may hold
a patient's name. A submission is sent again after a connection error or a 5xx answer; its `Idempotency-Key` makes
sure that it is run once.
"""

from service.client.asynchronous import AsyncClient
from service.client.cohorts import CohortItem
from service.client.connection import DEFAULT_URL, Client
from service.client.conversation import Patience, refusal
from service.client.form import Options, Submission, collect_files, collect_images
from service.client.result import FeatureVectorResult, Prediction, RoiResult

__all__ = [
    "DEFAULT_URL",
    "AsyncClient",
    "Client",
    "CohortItem",
    "FeatureVectorResult",
    "Options",
    "Patience",
    "Prediction",
    "RoiResult",
    "Submission",
    "collect_files",
    "collect_images",
    "refusal",
]
