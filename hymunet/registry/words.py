"""Numbers with their nouns."""


def counted(number: int, one: str, many: str = "") -> str:
    """`1 entry`, `2 entries`. many: where it is not `one` with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
