"""How a surface crosses a cube of eight voxels: the triangles of marching cubes.

A cube's configuration is a number whose bit k tells whether corner k lies in the region. Each crossing point
lies halfway along an edge. Configurations with bit 7 set are the complements of the others, turned inside out.

Where a face of the cube, or a polygon of more than three edges, can be cut in several ways, area and volume
depend on the choice. The choices below are those of PyRadiomics 3.0.1, because its mesh features are the
contract; they are facts about its `cshape.c` (BSD 3-Clause), which follows Bourke's table.

References:
    Lorensen, Cline, "Marching cubes: a high resolution 3D surface construction algorithm", SIGGRAPH 1987.
    Bourke, "Polygonising a scalar field", 1994.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

CORNERS: Final = ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0))
"""Offset of each corner along (K, J, I)."""

EDGES: Final = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
"""Corners at the ends of the edges a, b, ..., l."""

# Configurations 0 to 127; three letters name the edges that a triangle's points lie on.
_TRIANGLES: Final = (
    "-; aid; bja; bid bji; "
    "bck; aid bck; jck acj; cid cki kji; "
    "lcd; lca ail; bja lcd; lcb bjl jil; "
    "dkb lkd; kba aik ilk; jad dlj lkj; jik lki; "
    "ehi; aed ehd; bja ehi; bje beh bhd; "
    "bck ehi; deh dae bck; jck jac ehi; ckj cjh chd ehj; "
    "ehi lcd; leh lce cae; bja ehi lcd; ehl jel lcj bjc; "
    "dkb lkd ehi; lkb bel bae ehl; ehi jad dlj lkj; ehl elj jlk; "
    "jfe; jfe aid; afe abf; ife idf dbf; "
    "bck jfe; aid bck jfe; ckf fec cea; ckf dcf dfe ide; "
    "jfe lcd; lca ail jfe; afe abf lcd; cbf cfi lci fei; "
    "dkb lkd jfe; fej kba aik ilk; fea fal kfl lad; fei kfi lki; "
    "hij fhj; daj fdj dfh; hia abh hbf; bfh bhd; "
    "hij fhj bck; bck daj djf dfh; aci icf ifh ckf; ckf cfd dfh; "
    "fhj hij lcd; fhj jhc caj lch; lcd abi bhi bfh; cbl bhl bfh; "
    "hij fhj dkb lkd; fha faj hla kba lka; lka adl kfa ahi fha; lkf fhl; "
    "gfk; aid gfk; bja gfk; bid bji gfk; "
    "bgf bcg; bgf bcg aid; jgf jag acg; fji fic fcg idc; "
    "lcd gfk; lca ail gfk; bja lcd gfk; lcb bjl jil gfk; "
    "gdl gfd fbd; ail alf afb flg; gdl adg agf afj; gfj gjl lji; "
    "ehi gfk; aed ehd gfk; bja ehi gfk; bje beh bhd gfk; "
    "ehi bgf bcg; aed ehd bgf bcg; ehi jgf jag acg; hdj ehj dcj fjg cgj; "
    "lcd ehi gfk; leh lce cae gfk; bja lcd ehi gfk; ehl jel lcj bjc gfk; "
    "ehi gdl gfd fbd; fbl flg bal ehl ael; ehi gdl adg agf afj; gfj gjl ehj hlj; "
    "kej gek; kej gek aid; abk kga gea; bid bgi ige gbk; "
    "bej bce cge; bej bce cge aid; ace ecg; idc ice ecg; "
    "lcd kej gek; lca ail kej gek; lcd abk kga gea; geb gbk bei lcb bil; "
    "jge dgj bdj lgd; bil aib lgb bej geb; gdl adg gea; ige gil; "
    "ghk hik ijk; ghk akh ajk ahd; ghk bkh bhi abi; ghk bkh bhd; "
    "bcg bgi bij ghi; cgj bcj ghj daj hdj; ahi hag gac; chd cgh; "
    "lcd ghk hik ijk; cah lch ajh ghk jkh; ghk bkh bhi abi lcd; lcb bhl kgb bgh; "
    "ijg ghi bgj lgd bdg; ajb ghl; ahi hag adl lga; ghl"
)
_MOST: Final = 5  # triangles in one cube


def triangle_points() -> npt.NDArray[np.float64]:
    """Return the place of every triangle's points, in voxels from corner 0.

    Returns:
        float64 (256, 5, 3, 3): configuration, triangle, point, and (K, J, I); NaN where there is no triangle.
    """
    corners = np.array(CORNERS, dtype=np.float64)
    middles = np.array([(corners[start] + corners[end]) / 2 for start, end in EDGES])
    points = np.full((256, _MOST, 3, 3), np.nan)
    for configuration, words in enumerate(_TRIANGLES.split("; ")):
        for place, word in enumerate(words.replace("-", "").split()):
            edges = [ord(letter) - ord("a") for letter in word]
            points[configuration, place] = points[255 - configuration, place] = middles[edges]
    return points
