"""Median errors on 7-Scenes that others have published, to stand beside one's own.

All are against the original ground truth (`dslam`) on the dataset's test sequences, as each paper
reports them: the median over a scene's queries of the distance of the centres, in metres, and of
the rotation's angle, in degrees. Nothing here was measured by jaxreloc, and a number that could
not be read in its `source` is None.
"""

import dataclasses

from jaxreloc.formats.readers.seven_scenes import SCENES

_AALTO_README = "github.com/AaltoVision/camera-relocalisation, README.md"
_RELPOSENET_README = "github.com/AaltoVision/RelPoseNet, README.md"
_TRANSCNNLOC_README = "github.com/Geelooo/TransCNNloc, README.md"
_RELOC3R_PAPER = "arXiv 2412.08376, table 4, as quoted in a public summary of it"

Median = tuple[float, float]  # metres, degrees


@dataclasses.dataclass(frozen=True)
class PublishedResult:
    """One method's row.

    Attributes:
      method: its name in tables.
      trained_on: "scene" (a network for each scene), "dataset" (one network for the training
        sequences of all seven), "elsewhere" (no image of the dataset).
      reference: the publication.
      source: where the numbers were read.
      medians: by scene, in the order of `seven_scenes.SCENES`.
      average: over the seven scenes, where the source has it.
    """

    method: str
    trained_on: str
    reference: str
    source: str
    medians: tuple[Median | None, ...]
    average: Median | None = None

    def median(self, scene: str) -> Median | None:
        """Of one scene; None if it is not known."""
        return self.medians[SCENES.index(scene)]


SEVEN_SCENES = (
    PublishedResult(
        "PoseNet",
        "scene",
        "Kendall, Grimes and Cipolla, ICCV 2015",
        _AALTO_README,
        (
            (0.32, 8.12),
            (0.47, 14.4),
            (0.29, 12.0),
            (0.48, 7.68),
            (0.47, 8.42),
            (0.59, 8.64),
            (0.47, 13.8),
        ),
        (0.44, 10.4),
    ),
    PublishedResult(
        "LSTM-Pose",
        "scene",
        "Walch et al., ICCV 2017",
        _AALTO_README,
        (
            (0.24, 5.77),
            (0.34, 11.9),
            (0.21, 13.7),
            (0.30, 8.08),
            (0.33, 7.00),
            (0.37, 8.83),
            (0.40, 13.7),
        ),
        (0.31, 9.85),
    ),
    PublishedResult(
        "PoseNet, geometric loss",
        "scene",
        "Kendall and Cipolla, CVPR 2017",
        _TRANSCNNLOC_README,
        (
            (0.13, 4.48),
            (0.27, 11.3),
            (0.17, 13.0),
            (0.19, 5.55),
            (0.26, 4.75),
            (0.23, 5.35),
            (0.35, 12.4),
        ),
    ),
    PublishedResult(
        "MapNet",
        "scene",
        "Brahmbhatt et al., CVPR 2018",
        _TRANSCNNLOC_README,
        (
            (0.08, 3.25),
            (0.27, 11.69),
            (0.18, 13.25),
            (0.17, 5.15),
            (0.22, 4.02),
            (0.23, 4.93),
            (0.30, 12.08),
        ),
    ),
    PublishedResult(
        "the paper (Laskar et al.)",
        "dataset",
        "Laskar, Melekhov, Kalia and Kannala, ICCVW 2017",
        _AALTO_README,
        (
            (0.13, 6.46),
            (0.26, 12.72),
            (0.14, 12.34),
            (0.21, 7.35),
            (0.24, 6.35),
            (0.24, 8.03),
            (0.27, 11.82),
        ),
        (0.21, 9.30),
    ),
    PublishedResult(
        "RelPoseNet (the authors' port)",
        "dataset",
        "the paper's method, PyTorch",
        _RELPOSENET_README,
        (
            (0.12, 7.10),
            (0.26, 12.45),
            (0.14, 11.72),
            (0.20, 9.23),
            (0.21, 8.10),
            (0.23, 8.82),
            (0.27, 11.66),
        ),
        (0.20, 9.87),
    ),
    PublishedResult(
        "RelocNet",
        "dataset",
        "Balntas, Li and Prisacariu, ECCV 2018",
        _TRANSCNNLOC_README,
        (
            (0.12, 4.14),
            (0.26, 10.4),
            (0.14, 10.5),
            (0.18, 5.32),
            (0.26, 4.17),
            (0.23, 5.08),
            (0.28, 7.53),
        ),
    ),
    PublishedResult(
        "the paper, trained on University",
        "elsewhere",
        "Laskar, Melekhov, Kalia and Kannala, ICCVW 2017",
        _RELOC3R_PAPER,
        (
            (0.31, 15.05),
            (0.40, 19.00),
            (0.24, 22.15),
            (0.38, 14.14),
            None,
            None,
            (0.35, 23.55),
        ),
        (0.36, 18.38),
    ),
    PublishedResult(
        "Reloc3r-512",
        "elsewhere",
        "Dong et al., CVPR 2025",
        _RELOC3R_PAPER,
        (
            (0.03, 0.88),
            (0.03, 0.81),
            (0.01, 0.95),
            (0.04, 0.88),
            None,
            None,
            (0.07, 1.26),
        ),
        (0.04, 1.02),
    ),
)
