"""Kvasir-SEG: 1,000 endoscopic images of polyps. The masks are JPEG files, so that edges hold every grey."""

from hymunet.data.acquire.source import ArchiveFile, Source

SOURCE = Source(
    archives=(
        ArchiveFile("kvasir-seg.zip", 46_227_172, "03b30e21d584e04facf49397a2576738fd626815771afbbf788f74a7153478f7"),
    ),
    # Also of a copy zipped again: deeper, without the outer folder, in other case, as PNG.
    image=r"(?i:(?:.*/)?images/([^/]+)\.(?:jpe?g|png))",
    mask=r"(?i:(?:.*/)?masks/([^/]+)\.(?:jpe?g|png))",
    hosts=("https://datasets.simula.no/downloads",),
)
