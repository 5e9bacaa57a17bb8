"""Whatever bytes arrive, a reader either reads or refuses, within the memory it may take."""

import contextlib
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import CaseError
from service.imaging.case import Image
from service.imaging.guard import Limits
from service.imaging.reader import read_image
from tests.build import (
    build_geometry,
    build_image,
    to_bytes,
    write_dicom_series,
    write_mha,
    write_nifti,
    write_nrrd,
    zip_files,
)

LIMITS = Limits(decoded_bytes=2**20, voxels=2**20, files=8)
IMAGE = build_image(build_geometry((8, 7, 4)))
SEEDS = {
    "nifti": to_bytes(lambda path: write_nifti(path, IMAGE)),
    "nifti2": to_bytes(lambda path: write_nifti(path, IMAGE, version=2)),
    "nifti-gzip": to_bytes(lambda path: write_nifti(path, IMAGE, compressed=True)),
    "nrrd": to_bytes(lambda path: write_nrrd(path, IMAGE)),
    "nrrd-gzip": to_bytes(lambda path: write_nrrd(path, IMAGE, compressed=True)),
    "mha": to_bytes(lambda path: write_mha(path, IMAGE)),
    "mha-zlib": to_bytes(lambda path: write_mha(path, IMAGE, compressed=True)),
    "dicom": to_bytes(lambda path: path.write_bytes(write_dicom_series(path.parent / "s", IMAGE)[0].read_bytes())),
    "zip": to_bytes(lambda path: zip_files(path, write_dicom_series(path.parent / "s", IMAGE))),
}
HEADER = {"nifti": 352, "nifti2": 544, "dicom": 1100}
changes = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4
)


def read_or_refuse(path):
    with contextlib.suppress(CaseError):
        assert isinstance(read_image([path], LIMITS), Image)


@pytest.mark.parametrize("form", SEEDS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes, st.floats(0, 1))
def test_mutated_files_are_read_or_refused_in_bounded_memory(tmp_path, form, change, kept):
    content = bytearray(SEEDS[form])
    span = HEADER.get(form, min(len(content), 700))
    for where, replacement in change:
        at = int(where * min(span, len(content)))
        content[at : at + len(replacement)] = replacement
    if kept < 0.2:
        del content[int(kept * 5 * len(content)) :]
    (tmp_path / "upload").write_bytes(content)
    tracemalloc.start()
    try:
        read_or_refuse(tmp_path / "upload")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * 2**20


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([b"", b"NRRD0004\n", b"ObjectType = Image\n", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x5c\x01\0\0"]),
    st.binary(max_size=600),
)
def test_random_bytes_after_any_magic_are_refused(tmp_path, magic, rest):
    (tmp_path / "upload").write_bytes(magic + rest)
    with pytest.raises(CaseError):
        read_image([tmp_path / "upload"], LIMITS)
