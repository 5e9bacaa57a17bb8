import os
from pathlib import Path

import pytest

from service.cohort.cases import fingerprint, read_cases
from service.errors import FileMissing, ManifestInvalid

MODELS = {"small-ct@1.0.0": "0" * 64}


def _table(folder: Path, text: str) -> Path:
    (folder / "cases.csv").write_text(text)
    return folder / "cases.csv"


def test_rows_name_files_beside_the_table_and_keep_their_other_cells(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.nii", "b.nii"):
        (tmp_path / "sub" / name).write_bytes(b"x")
    (case,) = read_cases(_table(tmp_path, "Image,Mask,Label,case_id,site\nsub/a.nii, sub/b.nii ,2,p1,north\n"))
    submission = case.submission({"roi": "1", "model": "m"})
    assert submission.images == {"": [tmp_path / "sub" / "a.nii"]}
    assert submission.mask == [tmp_path / "sub" / "b.nii"]
    assert (submission.roi, submission.case_id, submission.model) == ("2", "p1", "m")
    assert case.extra == {"Image": "sub/a.nii", "Mask": "sub/b.nii", "Label": "2", "site": "north"}


def test_a_row_without_label_takes_the_region_of_all(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (case,) = read_cases(_table(tmp_path, "Image,Mask,Label\na,a,\n"))
    assert case.submission({"roi": "all"}).roi == "all"
    assert case.case_id is None
    assert case.name == "a"


def test_channels_have_columns_of_their_own(tmp_path: Path) -> None:
    for name in ("t1", "flair", "mask"):
        (tmp_path / name).write_bytes(b"x")
    (case,) = read_cases(_table(tmp_path, "Image.t1,Image.flair,Mask\nt1,flair,mask\n"))
    assert case.submission({}).images == {"t1": [tmp_path / "t1"], "flair": [tmp_path / "flair"]}


def test_a_table_of_a_spreadsheet_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert len(read_cases(_table(tmp_path, "\ufeffImage,Mask\r\na,b\r\n\r\n"))) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Image;Mask\na;b\n", "has the columns Image;Mask; expected Image"),
        ("", "has the columns none"),
        ("Image,Mask\n", "no rows"),
        ("Image,Mask,Mask\na,b,c\n", "Mask come twice"),
        ("Image,Image.t1,Mask\na,b,c\n", "one or the other"),
        ("Image,Mask\na,b,c\n", "line 2 has more cells"),
        ("Image,Mask,Label_channel\na,b,0\na,b,1\n", "line 3: Label_channel other than 0"),
        ('Image,Mask\n"a,b\n', "cannot be read as CSV"),
        ("Image,Mask\n\udce4,b\n", "cannot be read as CSV in UTF-8"),
    ],
)
def test_what_is_no_table_of_cases_is_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ManifestInvalid) as refused:
        read_cases(tmp_path / "cases.csv")
    assert reason in refused.value.detail


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="cannot be read"):
        read_cases(tmp_path / "absent.csv")


@pytest.mark.parametrize(("row", "reason"), [("a,", "the cell Mask is empty"), ("a,absent", "there is no")])
def test_a_row_whose_files_are_not_there_says_which(row: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (case,) = read_cases(_table(tmp_path, f"Image,Mask\n{row}\n"))
    with pytest.raises(FileMissing, match=reason):
        case.submission({})


def test_a_fingerprint_follows_what_decides_the_result_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "own.yaml").write_text("setting: {}")
    table = "Image,Mask,Label,case_id,site\na,a,1,p1,north\na,a,1,p2,south\na,a,2,p1,north\n"
    one, same, other = read_cases(_table(tmp_path, table))

    def of(case: object = one, models: dict[str, str] = MODELS, **options: object) -> str:
        return fingerprint(case.submission(options), tmp_path, models)  # type: ignore[attr-defined]

    first = of()
    assert of(same) == first
    assert len({first, of(other), of(radiomics="full"), of(radiomics_axes="stored"), of(models={"m@1.0.0": "1"})}) == 5
    with_file = of(radiomics=tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text("setting: {binWidth: 5}")
    assert of(radiomics=tmp_path / "own.yaml") != with_file
    os.utime(tmp_path / "a", ns=(0, 1))
    assert of() != first
