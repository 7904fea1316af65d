"""Names as people give them: paired, told apart, or named with what is wrong."""

import pytest

from hymunet.data.acquire.folder import role
from hymunet.data.acquire.pairs import by_pattern, described, leftover, pair
from hymunet.data.acquire.sources import SOURCES

LEFT = [
    ".DS_Store",
    "._x.jpg",
    "images/._x.jpg",
    "__MACOSX/images/x.jpg",
    "images/Thumbs.db",
    "images/thumbs.DB",
    "desktop.ini",
    "images/@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg",
    "images/.ipynb_checkpoints/x-checkpoint.jpg",
    ".git/x.png",
    "#recycle/x.jpg",
    "$RECYCLE.BIN/x.jpg",
    "images/Icon\r",
    "images/~$x.jpg",
    "images/x.jpg~",
    "images/x.jpg.part",
    "images/x.tmp",
    ".Trashes/501/x.jpg",
    "images/.x.jpg.swp",
    "images/ISIC_0000000_superpixels.png",
    "lost+found/x.png",
    "images/ehthumbs_vista.db",
    "images/.nfs0001",
    "images/x.jpg.crdownload",
    ".AppleDouble/x.jpg",
    "images/DICOMDIR",
    "images/@__thumb/x.jpg",
    "@Recycle/x.jpg",
    "@Recently-Snapshot/x/images/x.jpg",
    "#snapshot/x/images/x.jpg",
    "System Volume Information/x.png",
    "Network Trash Folder/x.png",
    "images/__pycache__/x.png",
]
KEPT = [
    "x.jpg",
    "images/x.jpg",
    "images/a.b.jpg",
    "images/iconic.jpg",
    "images/x (1).jpg",
    "images/IMG_0001.JPG",
    "images/@a.jpg",
    "images/#1.jpg",
    "recycled/images/x.jpg",
    "./x.jpg",
]


@pytest.mark.parametrize("name", LEFT)
def test_what_systems_leave_behind_is_no_image(name):
    assert leftover(name)


@pytest.mark.parametrize("name", KEPT)
def test_what_people_put_there_is(name):
    assert not leftover(name)


FOLDERS = {
    "folder/images/1.jpg": ("image", "1"),
    "folder/masks/1.png": ("mask", "1"),
    "folder/images/a/1.jpg": ("image", "a/1"),
    "folder/images/lesions/1.jpg": ("image", "lesions/1"),  # the top folder tells
    "folder/Images/1.jpg": ("image", "1"),
    "folder/Original/1.tif": ("image", "1"),  # CVC-ClinicDB
    "folder/Ground Truth/1.tif": ("mask", "1"),
    "folder/CVC-ClinicDB/Original/612.png": ("image", "CVC-ClinicDB/612"),
    "folder/ISBI2016_ISIC_Part1_Training_Data/ISIC_0000000.jpg": ("image", "ISIC_0000000"),
    "folder/ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_0000000_Segmentation.png": (
        "mask",
        "ISIC_0000000_Segmentation",
    ),
    "folder/ISIC-2017_Training_Data/ISIC_0000000.jpg": ("image", "ISIC_0000000"),
    "folder/ISIC-2017_Training_Part1_GroundTruth/ISIC_0000000_segmentation.png": ("mask", "ISIC_0000000_segmentation"),
    "folder/ISIC2018_Task1-2_Training_Input/ISIC_0000000.jpg": ("image", "ISIC_0000000"),
    "folder/ISIC2018_Task1_Training_GroundTruth/ISIC_0000000_segmentation.png": ("mask", "ISIC_0000000_segmentation"),
    "folder/PH2 Dataset images/IMD003/IMD003_Dermoscopic_Image/IMD003.bmp": (
        "image",
        "PH2 Dataset images/IMD003/IMD003",
    ),
    "folder/PH2 Dataset images/IMD003/IMD003_lesion/IMD003_lesion.bmp": (
        "mask",
        "PH2 Dataset images/IMD003/IMD003_lesion",
    ),
    "folder/train/img/1.png": ("image", "train/1"),
    "folder/train/gt/1.png": ("mask", "train/1"),
    "folder/images/1.cr2": ("image", "1"),
    "folder/images/1.txt": None,
    "folder/1.jpg": None,
    "folder/other/1.jpg": None,
    "folder/imagenet/1.jpg": None,
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_s_name_tells_images_from_masks(name):
    assert role(name) == FOLDERS[name]


def paired(*names, role=role):
    return {
        one.id: one.problem or (one.image and one.image[1], one.mask and one.mask[1])
        for one in pair({"a.zip": names}, role)
    }


@pytest.mark.parametrize(
    "mask",
    [
        "x.png",
        "x.PNG",
        "x_mask.png",
        "x_segmentation.png",
        "x_Segmentation.png",
        "x_lesion.bmp",
        "x-mask.png",
        "x_gt.tif",
        "x_seg.png",
        "x label.png",
        "x_GroundTruth.png",
        "x_ground_truth.png",
        "x_masks.gif",
        "X.png",
        "X_MASK.PNG",
        "x_annotation.webp",
    ],
)
def test_a_mask_finds_its_image_by_what_people_call_it(mask):
    assert paired("folder/images/x.jpg", f"folder/masks/{mask}") == {
        "x": ("folder/images/x.jpg", f"folder/masks/{mask}")
    }


NAMES = {
    "no mask": (["images/x.jpg"], {"x": "no mask"}),
    "no image": (["masks/x.png"], {"x": "no image"}),
    "two images": (["images/x.jpg", "images/x.png", "masks/x.png"], {"x": "2 images of this name"}),
    "two masks": (["images/x.jpg", "masks/x.png", "masks/x_mask.png"], {"x": "2 masks of this name"}),
    "a kind that is not read": (["images/x.cr2", "masks/x.png"], {"x": "image folder/images/x.cr2 is of a kind"}),
    "a mask that is not read": (["images/x.jpg", "masks/x.nii"], {"x": "mask folder/masks/x.nii is of a kind"}),
    "an image called mask": (["images/x_mask.jpg", "masks/x_mask.png"], {"x_mask": None}),
    "an image called mask and its mask": (
        ["images/x_mask.jpg", "images/x.jpg", "masks/x_mask.png", "masks/x.png"],
        {"x": None, "x_mask": None},
    ),
    "accents composed and not": (["images/Läsion.jpg", "masks/La\u0308sion.png"], {"Läsion": None}),
    "case tells apart": (["images/a.jpg", "images/A.jpg", "masks/a.png", "masks/A.png"], {"A": None, "a": None}),
    "case does not decide between two": (["images/a.jpg", "images/A.jpg", "masks/a.png"], {"A": "no mask", "a": None}),
    "numbers": (["images/000.png", "images/0.png", "masks/000.png", "masks/0.png"], {"0": None, "000": None}),
    "leftovers beside": (["images/x.jpg", "masks/x.png", "images/._x.jpg", "__MACOSX/images/x.jpg"], {"x": None}),
    "a name with a line's end": (["images/x\ny.jpg", "masks/x\ny.png"], {"'x\\ny'": None}),
    "folders pair, too": (
        ["images/a/1.jpg", "images/b/1.jpg", "masks/a/1.png", "masks/b/1.png"],
        {"a/1": None, "b/1": None},
    ),
}


@pytest.mark.parametrize("case", NAMES)
def test_each_name_is_paired_or_named_with_its_problem(case):
    names, expected = NAMES[case]
    found = paired(*(f"folder/{name}" for name in names))
    assert found.keys() == expected.keys()
    for id, problem in expected.items():
        assert isinstance(found[id], tuple) if problem is None else problem in found[id], found


WRITTEN_OUT = {  # signs that are not printed: an id that holds one begins with a quotation mark
    "a space that does not break": "links\u00a0(2)",
    "a soft hyphen": "haut\u00adkrebs",
    "a joiner": "x\u200dy",
    "a mark of the order of bytes": "\ufeffx",
    "a line's end": "x\ny",
}


@pytest.mark.parametrize("case", WRITTEN_OUT)
def test_pairs_are_in_the_order_of_their_ids_by_which_split_and_arrays_are_joined(case):
    """split.csv is sorted by id, and its rows are the arrays' rows."""
    names = ["0", "a", "b", "ä", WRITTEN_OUT[case]]
    pairs = pair({"": [f"folder/{kind}/{name}.png" for kind in ("images", "masks") for name in names]}, role)
    ids = [one.id for one in pairs]
    assert len(ids) == 5
    assert any(not id.isalnum() for id in ids)
    assert ids == sorted(ids)


KVASIR = {
    "as published": "Kvasir-SEG/images/a.jpg Kvasir-SEG/masks/a.jpg Kvasir-SEG/kavsir_bboxes.json",
    "one folder deeper": "Kvasir-SEG/Kvasir-SEG/images/a.jpg Kvasir-SEG/Kvasir-SEG/masks/a.jpg",
    "without the outer folder": "images/a.jpg masks/a.jpg",
    "in other case": "kvasir-seg/Images/a.JPG kvasir-seg/Masks/a.JPG",
    "from a Mac": "Kvasir-SEG/images/a.jpg Kvasir-SEG/masks/a.jpg __MACOSX/Kvasir-SEG/images/._a.jpg",
    "masks as PNG": "Kvasir-SEG/images/a.jpg Kvasir-SEG/masks/a.png",
}


@pytest.mark.parametrize("case", KVASIR)
def test_kvasir_zipped_again_is_understood(case):
    (found,) = SOURCES["kvasir_seg"].pairs({"kvasir-seg.zip": KVASIR[case].split(" ")})
    assert (found.id, found.problem) == ("a", "")


@pytest.mark.parametrize("folder", ["ISIC2018_Task1-2_Training_Input/", "", "deeper/ISIC2018_Task1-2_Training_Input/"])
@pytest.mark.parametrize("ending", ["jpg", "JPG", "jpeg", "png", "tif", "webp"])
def test_isic_zipped_again_is_understood(folder, ending):
    masks = folder.replace("1-2_Training_Input", "1_Training_GroundTruth")
    members = {
        "images.zip": [
            *(f"{folder}ISIC_0000001.{ending}", f"{folder}ISIC_0000001_superpixels.png", f"{folder}LICENSE.txt"),
            f"__MACOSX/{folder}._ISIC_0000001.{ending}",
        ],
        "masks.zip": [f"{masks}ISIC_0000001_segmentation.png"],
    }
    (found,) = SOURCES["isic2018"].pairs(members)
    assert (found.id, found.problem) == ("ISIC_0000001", "")


def test_a_source_of_two_patterns_pairs_by_their_first_group():
    ph2 = by_pattern(r"PH2/(IMD\d{3})/\1_Dermoscopic_Image/\1\.bmp", r"PH2/(IMD\d{3})/\1_lesion/\1_lesion\.bmp")
    names = [
        "PH2/IMD002/IMD002_Dermoscopic_Image/IMD002.bmp",
        "PH2/IMD002/IMD002_lesion/IMD002_lesion.bmp",
        "PH2/x.txt",
    ]
    assert paired(*names, role=ph2) == {"IMD002": (names[0], names[1])}


def test_what_was_found_is_described_in_short():
    assert described(["b/2.png", "a/1.jpg", "a/2.jpg"]) == "2 .jpg, 1 .png, as a/1.jpg, a/2.jpg, b/2.png"
    assert described([]) == "nothing"
