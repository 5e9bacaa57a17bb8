"""DICOM objects as STOW-RS sends them: one part each, and the options in the address.

Which of them are the image's and which is the mask is not told here: no DICOM is parsed in this process.

References:
    DICOM PS3.18 8.6.1 (multipart/related), 10.5 (store transaction); RFC 2387.
"""

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from service.api.uploads import MOST_ROIS, TEXT_FIELDS, Form, FormReader, shown
from service.errors import InvalidField, UnsupportedMedia

RELATED = b"multipart/related"
DICOM = b"application/dicom"


class RelatedReader(FormReader):
    """Turn the blocks of a `multipart/related` body into a `Form` of files whose roles are not known yet."""

    def _open_part(self) -> None:
        headers = {bytes(name).lower(): bytes(value) for name, value in self._headers}
        kind, _ = parse_options_header(headers.get(b"content-type"))
        if kind != DICOM:
            raise UnsupportedMedia("every part must have the Content-Type application/dicom")
        self._target = self._open_upload("part", "unsorted", None)


def read_options(request: Request) -> Form:
    """Return a form of the options in the address, which has them where the body is `multipart/related`.

    Raises:
        InvalidField: an option is unknown or given twice, or there are any beside a form.
        UnsupportedMedia: the related parts are of another type than DICOM.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    form = Form()
    for name, text in request.query_params.multi_items():
        if kind != RELATED or name not in TEXT_FIELDS:
            known = ", ".join(sorted(TEXT_FIELDS)) if kind == RELATED else "none, for they belong in the form"
            raise InvalidField(f"there is an option in the address that is not one of: {known}", field=shown(name))
        if name in form.texts or len(form.rois) > MOST_ROIS:
            raise InvalidField(f"{name}: given too often", field=name)
        if name == "roi":
            form.rois.append(text)
        else:
            form.texts[name] = text
    if kind == RELATED and options.get(b"type", DICOM) != DICOM:
        raise UnsupportedMedia('expected multipart/related; type="application/dicom"')
    return form
