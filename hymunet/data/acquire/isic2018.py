"""ISIC 2018 Task 1: 2,594 dermoscopic images with the lesion's mask; 100 and 1,000 more for validation and test."""

from hymunet.data.acquire.source import ArchiveFile, Source
from hymunet.formats.kinds import READ

ISIC = "ISIC2018_Task1"

SOURCE = Source(
    archives=(
        ArchiveFile(
            f"{ISIC}-2_Training_Input.zip",
            11_165_358_566,
            "80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f",
        ),
        ArchiveFile(
            f"{ISIC}_Training_GroundTruth.zip",
            27_402_895,
            "99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c",
        ),
    ),
    # Names tell enough: a copy zipped again lies deeper, or in no folder at all, and may be of another kind.
    image=rf"(?i:(?:.*/)?(ISIC_\d{{7}})\.(?:{READ}))",
    mask=r"(?i:(?:.*/)?(ISIC_\d{7})_segmentation\.png)",
    hosts=(
        "https://isic-archive.s3.amazonaws.com/challenges/2018",
        "https://isic-challenge-data.s3.amazonaws.com/2018",
    ),
    mask_threshold=128,
    official={
        "validation": (
            ArchiveFile(
                f"{ISIC}-2_Validation_Input.zip",
                239_231_159,
                "0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797",
            ),
            ArchiveFile(
                f"{ISIC}_Validation_GroundTruth.zip",
                759_706,
                "f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285",
            ),
        ),
        "test": (
            ArchiveFile(
                f"{ISIC}-2_Test_Input.zip",
                2_370_457_338,
                "e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d",
            ),
            ArchiveFile(
                f"{ISIC}_Test_GroundTruth.zip",
                9_680_101,
                "2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82",
            ),
        ),
    },
)
