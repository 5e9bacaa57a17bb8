"""The ranges that phantoms are drawn from: the lung of training, a small one for tests, and two strangers."""

from dataclasses import dataclass

from training.drawing import Range


@dataclass(frozen=True)
class Layout:
    """What all phantoms of a cohort have in common; ranges are drawn from uniformly, per phantom.

    `shape` is in voxels along the house axes (I, J, K); every length is in mm and every density in HU.
    """

    shape: tuple[int, int, int] = (72, 72, 48)
    in_plane_mm: Range = (0.7, 1.0)
    slice_mm: Range = (1.0, 2.5)
    radius_mm: Range = (4.0, 10.0)
    vessels: tuple[int, int] = (8, 20)
    wall_probability: float = 0.3
    parenchyma_hu: Range = (-890.0, -810.0)
    solid_hu: Range = (10.0, 70.0)
    ground_glass_hu: Range = (-680.0, -480.0)
    noise_hu: Range = (12.0, 55.0)
    outline_mm: Range = (-0.3, 0.4)


LUNG = Layout()
SMALL = Layout(shape=(40, 40, 24), slice_mm=(1.5, 2.0), radius_mm=(4.0, 6.0), vessels=(2, 4))
# Two layouts that a model of LUNG must not be trusted on: a dose far too low, and a sphere in another organ.
UNDEREXPOSED = Layout(noise_hu=(180.0, 260.0))
OFF_ORGAN = Layout(parenchyma_hu=(20.0, 60.0), solid_hu=(90.0, 140.0), vessels=(0, 1), wall_probability=0.0)
