"""The multipart reader, block by block, against what was sent."""

import os
import tempfile
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.uploads import FormReader
from service.errors import DiskFull
from service.storage import Storage

CHANNELS = ("ct", "pet")
JOB_ID = "0" * 32
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
# Contents made of a boundary's own pieces find every wrong step of a parser.
contents = st.lists(
    st.sampled_from([b"\r", b"\n", b"-", b"--", b"b", b"\r\n--b", b"\r\n--bound", b"\x00x"]), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(
    images=st.lists(contents.map(b"".join), min_size=1, max_size=4),
    mask=st.binary(min_size=1, max_size=300),
    case_id=texts,
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_any_cutting_of_the_body_gives_the_same_form(
    images: list[bytes], mask: bytes, case_id: str, cuts: list[int]
) -> None:
    parts = [
        *(("image.ct", ("name.dcm", image)) for image in images),
        ("mask", ("m", mask)),
        ("case_id", (None, case_id)),
    ]
    headers = {"Content-Type": "multipart/form-data; boundary=bounds"}
    body = httpx.Request("POST", "http://x", files=parts, headers=headers).read()
    with tempfile.TemporaryDirectory() as folder, Storage(Path(folder)).stage() as staging:
        stored_in = Path(folder) / "jobs" / JOB_ID
        reader = FormReader(b"bounds", staging, channels=CHANNELS, max_files=10)
        position = 0
        while position < len(body):
            step = cuts[position % len(cuts)]
            reader.feed(body[position : position + step])
            position += step
        form = reader.close()
        staging.commit(JOB_ID)
        stored = [(upload.role, upload.channel, (stored_in / upload.file).read_bytes()) for upload in form.files]
    assert stored == [*(("image", "ct", image) for image in images), ("mask", None, mask)]
    assert form.texts == {"case_id": case_id}


def test_stored_names_say_nothing_of_the_senders_names(tmp_path: Path) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="../../Planted_Name.nii"\r\n\r\nx\r\n'
        b'--b\r\nContent-Disposition: form-data; name="mask"; filename="/etc/planted"\r\n\r\ny\r\n--b--\r\nepilogue'
    )
    with Storage(tmp_path).stage() as staging:
        reader = FormReader(b"b", staging, channels=CHANNELS, max_files=10)
        reader.feed(body)
        assert [upload.file for upload in reader.close().files] == ["image-0000", "mask-0001"]
        staging.commit(JOB_ID)
    assert sorted(path.name for path in (tmp_path / "jobs" / JOB_ID).iterdir()) == ["image-0000", "mask-0001"]


def test_a_disk_that_fills_up_during_the_upload_is_507(tmp_path: Path) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n'
    with Storage(tmp_path).stage() as staging:
        reader = FormReader(b"b", staging, channels=CHANNELS, max_files=10)
        reader.feed(head + b"x" * 1000)
        with Path("/dev/full").open("wb") as full:  # the kernel's own "no space left on device"
            os.dup2(full.fileno(), staging._parts[0]._file.fileno())
        with pytest.raises(DiskFull) as refused:
            reader.feed(b"x" * 1000)
    assert refused.value.status == 507
    assert refused.value.facts["retry_after_seconds"] > 0
    assert not list((tmp_path / "incoming").iterdir())
