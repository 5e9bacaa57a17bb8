import io

import numpy as np
import pytest
from PIL import Image as Pillow

from service.imaging.case import Image, Mask
from service.report.picture import GAP, LUNG_HU, OUTLINE, PANEL, SOFT_TISSUE_HU, choose_window, draw_preview, outline_of
from tests.build import build_geometry, build_image, build_mask

CUBE = build_geometry((40, 40, 40), (1, 1, 1), (0, 0, 0))


def read(png: bytes):
    picture = Pillow.open(io.BytesIO(png))
    assert picture.format == "PNG"
    assert picture.info == {}
    return np.asarray(picture.convert("RGB"))


def panels(png: bytes):
    pixels = read(png)
    assert pixels.shape == (PANEL, 3 * PANEL + 2 * GAP, 3)
    return [pixels[:, start : start + PANEL] for start in (0, PANEL + GAP, 2 * (PANEL + GAP))]


def build_box_mask() -> Mask:
    """A box left of, behind and above the middle."""
    voxels = np.zeros(CUBE.shape, bool)
    voxels[30:36, 24:30, 28:32] = True
    return Mask(voxels, CUBE)


def outlined(panel):
    rows, columns = np.nonzero((panel == OUTLINE).all(axis=-1))
    scale = CUBE.shape[0] / PANEL
    return [round(float(edge) * scale) for edge in (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)]


def test_each_plane_shows_the_region_where_it_is():
    axial, coronal, sagittal = panels(draw_preview(build_image(CUBE), build_box_mask()))
    assert outlined(axial) == [30, 36, 24, 30]  # left of the patient to the right, back down
    assert outlined(coronal) == [30, 36, 8, 12]  # head up
    assert outlined(sagittal) == [24, 30, 8, 12]


def test_the_region_s_inside_shows_the_image():
    bright = np.full(CUBE.shape, -100, np.int16)
    mask = build_box_mask()
    bright[mask.voxels] = 240
    axial, _, _ = panels(draw_preview(Image(bright, CUBE, "CT"), mask))
    assert axial[27 * 8, 33 * 8].tolist() == [255, 255, 255]
    assert axial[20 * 8, 10 * 8].tolist() == [38, 38, 38]  # 255 * (-100 + 160) / 400


def test_thick_planes_are_drawn_to_scale():
    geometry = build_geometry((40, 40, 10), (1, 1, 5))
    image = Image(np.full(geometry.shape, 240, np.int16), geometry, "CT")
    _, coronal, _ = panels(draw_preview(image, build_mask(geometry, 4)))
    lit = (coronal > 200).all(axis=-1)
    assert np.count_nonzero(lit[PANEL // 4]) == 40 * PANEL / 50  # 40 mm across, of the 50 mm that fill the panel
    assert np.count_nonzero(lit[:, PANEL // 4]) == pytest.approx(PANEL, abs=2)


@pytest.mark.parametrize(
    ("modality", "neighbourhood_hu", "window"),
    [
        ("CT", -850, LUNG_HU),
        ("CT", 40, SOFT_TISSUE_HU),
        (None, -850, LUNG_HU),
        (None, 40, (40.0, 40.000001)),
        ("MR", -850, (-850.0, -849.999999)),
    ],
)
def test_the_window_suits_the_modality_and_the_neighbourhood(modality, neighbourhood_hu, window):
    image = Image(np.full(CUBE.shape, neighbourhood_hu, np.int16), CUBE, modality)
    assert choose_window(image, build_box_mask()) == pytest.approx(window)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint32", "float64"])
def test_every_voxel_type_is_drawn(dtype):
    assert read(draw_preview(build_image(dtype=dtype), build_mask())).std() > 5


def test_the_outline_is_what_touches_the_outside():
    region = np.zeros((6, 7), bool)
    region[1:5, 2:6] = True
    ring = region.copy()
    ring[2:4, 3:5] = False
    assert np.array_equal(outline_of(region), ring)
    assert np.array_equal(outline_of(np.ones((2, 2), bool)), np.ones((2, 2), bool))


def test_the_same_case_gives_the_same_bytes():
    assert draw_preview(build_image(), build_mask()) == draw_preview(build_image(), build_mask())


def test_only_the_outline_is_coloured():
    voxels = np.linspace(-160, 240, CUBE.shape[0] ** 3).reshape(CUBE.shape).astype(np.int16)  # every grey
    pixels = read(draw_preview(Image(voxels, CUBE, "CT"), build_box_mask()))
    coloured = (pixels != pixels[..., :1]).any(axis=-1)
    assert coloured.any()
    assert (pixels[coloured] == OUTLINE).all()
