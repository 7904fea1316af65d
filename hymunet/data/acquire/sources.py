"""Where images come from, by the name that `data.source` gives.

To add a source, write its module beside the others and name it here and in `params.Data`; docs/data.md shows one.
"""

from hymunet.data.acquire import folder, isic2018, kvasir_seg, synthetic
from hymunet.data.acquire.source import Source

SOURCES: dict[str, Source] = {
    "isic2018": isic2018.SOURCE,
    "kvasir_seg": kvasir_seg.SOURCE,
    "folder": folder.SOURCE,
    "synthetic": synthetic.SOURCE,
}
