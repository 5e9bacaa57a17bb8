"""Whatever bytes arrive as a DICOM mask or a multi-frame image, they are read or refused with a type."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import CaseError
from service.imaging.case import Case
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from tests.build import build_geometry, build_image, write_dicom_series
from tests.imaging.segments import write_seg
from tests.imaging.structures import FRAME, circle, on_slice, write_rtstruct
from tests.imaging.test_multiframe import write_enhanced

LIMITS = Limits(decoded_bytes=2**21, voxels=2**20, files=8)
GEOMETRY = build_geometry((16, 15, 5))
changes = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An image, masks of it, and a multi-frame image."""
    folder = tmp_path_factory.mktemp("fuzz")

    def change(dataset, _index):
        dataset.FrameOfReferenceUID = FRAME

    image = build_image(GEOMETRY)
    series = write_dicom_series(folder / "s", image, change=change)
    ball = np.zeros((*GEOMETRY.shape, 2), np.uint8)
    ball[3:9, 4:9, 1:4, 0], ball[5:7, 5:7, 2:4, 1] = 1, 1
    rois = {name: [on_slice(GEOMETRY, k, circle((7, 7), r, 30)) for k in (1, 2, 3)] for name, r in (("a", 4), ("b", 2))}
    contours = write_rtstruct(folder / "rs", rois)
    return (series, contours), {
        "rtstruct": contours.read_bytes(),
        "binary": write_seg(folder / "seg", series, ball, ("a", "b")).read_bytes(),
        "fractional": write_seg(
            folder / "fr", series, ball.astype(np.float32), ("a", "b"), kind="FRACTIONAL"
        ).read_bytes(),
        "multiframe": write_enhanced(folder / "e", image, frame=FRAME).read_bytes(),
    }


@pytest.mark.parametrize("form", ["rtstruct", "binary", "fractional", "multiframe"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes, st.floats(0, 1))
def test_mutated_dicom_objects_are_read_or_refused(tmp_path, files, form, change, kept):
    (series, contours), contents = files
    content = bytearray(contents[form])
    for where, replacement in change:
        at = 132 + int(where * (len(content) - 132))
        content[at : at + len(replacement)] = replacement
    if kept < 0.1:
        del content[int(kept * 10 * len(content)) :]
    upload = tmp_path / "upload"
    upload.write_bytes(content)
    image, mask = ([upload], contours) if form == "multiframe" else (series, upload)
    with contextlib.suppress(CaseError):
        case = read_case(CaseFiles({"ct": image}, [mask]), roi="all", resample_mask=True, limits=LIMITS, case_id=None)
        assert isinstance(case, Case)
