"""groups.csv of a folder: what is understood, and what is refused with its line and the remedy."""

import pytest

from hymunet.data.acquire import listing
from hymunet.data.acquire.folder import role
from hymunet.data.acquire.listing import Entry
from hymunet.data.acquire.pairs import pair

NAMES = [f"folder/images/{name}" for name in ("a.jpg", "b.jpg", "left/c.png", "Ä 1.png")]
PAIRS = pair({"folder.zip": [*NAMES, "folder/masks/a.png", "folder/masks/lonely.png"]}, role)
ALL = ("a", "b", "left/c", "Ä 1")
PATIENTS = {"Ä 1": Entry("p2", ""), "a": Entry("p1", ""), "b": Entry("p1", ""), "left/c": Entry("p2", "")}
GOOD = {
    "ids": "image,group\na,p1\nb,p1\nleft/c,p2\nÄ 1,p2\n",
    "files, and a folder's file by its own name": "image,group\na.jpg,p1\nb.jpg,p1\nc.png,p2\nÄ 1.png,p2\n",
    "another order, spaces, capitals, a further column": "Age, Group ,IMAGE\n3,p2,left/c\n4,p1,a\n,p1,b\n5, p2 , Ä 1\n",
    "as a spreadsheet writes it in Europe": "\ufeffimage;group\r\na;p1\r\nb;p1\r\nleft/c;p2\r\nÄ 1;p2\r\n",
    "tabs, and no end of the last line": "image\tgroup\na\tp1\nb\tp1\nleft/c\tp2\nÄ 1\tp2",
    "quotes, and accents in two characters": 'image,group\n"a","p1"\nb,p1\n"left/c",p2\nA\u0308 1,p2\n',
}


@pytest.mark.parametrize("text", GOOD)
def test_what_people_write_is_understood(text: str) -> None:
    assert listing.read(GOOD[text].encode(), PAIRS, "groups.csv") == PATIENTS


def test_a_split_of_ones_own_with_groups_or_alone() -> None:
    rows = dict(zip(ALL, ("train", "train", "validation", "test"), strict=True))
    alone = "image,split\n" + "".join(f"{id},{split}\n" for id, split in rows.items())
    both = "image,split,group\n" + "".join(f"{id},{split},p\n" for id, split in rows.items())
    assert listing.read(alone.encode(), PAIRS, "x") == {id: Entry("", split) for id, split in rows.items()}
    assert listing.read(both.encode(), PAIRS, "x") == {id: Entry("p", split) for id, split in rows.items()}


TWINS = pair({"folder.zip": [f"folder/images/{name}" for name in ("a.jpg", "b.jpg", "b.PNG", "b.tif")]}, role)


@pytest.mark.parametrize("lines", [("b.jpg", "b.PNG", "b.tif"), ("b.tif", "b.jpg"), ("b.PNG",), ("b",)], ids=str)
def test_images_of_one_name_are_named_by_their_files(lines: tuple[str, ...]) -> None:
    """They are a bad pair, which prepare refuses or leaves out; a listing that tells the truth stops nothing."""
    text = "image,group\na.jpg,p1\n" + "".join(f"{name},p2\n" for name in lines)
    assert listing.read(text.encode(), TWINS, "x") == {"a": Entry("p1", ""), "b": Entry("p2", "")}


def test_one_of_them_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"line 4: 'b.PNG' has a line already; leave one"):
        listing.read(b"image,group\na,p1\nb.PNG,p2\nb.PNG,p3\n", TWINS, "x")


BAD = {
    "nothing": ("", "first line names the columns image and group, split or both, each once; it has none"),
    "no column of images": ("name,group\na,p1\n", "first line names the columns image .*; it has name, group"),
    "neither group nor split": ("image,age\na,3\n", "it has image, age"),
    "a column twice": ("image,group,Group\na,1,2\n", "each once; it has image, group, group"),
    "an image that is not here": (
        GOOD["ids"] + "z.jpg,p1\n",
        r"1 lines name no image .*: 'z.jpg' \(line 6\); write .*",
    ),
    "an image without a line": ("image,group\na,p1\n", "3 images have no line: .*; every image needs one"),
    "an image twice": (GOOD["ids"] + "a.jpg,p2\n", "line 6: 'a.jpg' has a line already; leave one"),
    "an empty group": ("image,group\na,\n", "line 2: group is empty; an image alone has a group of its own"),
    "another word for a part": ("image,split\na,val\n", "line 2: split is 'val'; it may be train, validation, test"),
    "a part without images": (
        "image,split\n" + "".join(f"{id},train\n" for id in ALL),
        "no image has the split validation or test; each of train, validation, test needs some",
    ),
    "too few columns in a line": ("image,group\na\n", "line 2: not 2 columns"),
    "too many columns in a line": ("image,group\na,p1,p2\n", "line 2: not 2 columns"),
    "an open quote": ('image,group\na,"p1\nb,p1\n', "from line 1 on: .*; save it as CSV again"),
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_told_with_its_line(text: str) -> None:
    content, said = BAD[text]
    with pytest.raises(ValueError, match=said) as error:
        listing.read(content.encode(), PAIRS, "mine/groups.csv")
    assert str(error.value).startswith("mine/groups.csv")


def test_another_encoding_is_told() -> None:
    with pytest.raises(ValueError, match=r"groups.csv: not in UTF-8; save it as CSV UTF-8"):
        listing.read(GOOD["ids"].encode("latin-1"), PAIRS, "groups.csv")


def test_a_name_that_two_files_have_is_refused() -> None:
    twice = pair({"folder.zip": ["folder/images/left/c.png", "folder/images/right/c.png"]}, role)
    with pytest.raises(ValueError, match="name no image that is here, or several: 'c'"):
        listing.read(b"image,group\nc,1\nright/c,2\n", twice, "groups.csv")
