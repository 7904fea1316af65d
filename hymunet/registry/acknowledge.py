"""Entries of a ledger that were deleted or changed by hand: a person looks, says why it is accepted, and it goes on.

What happened stays to be seen: an acknowledgement is an entry like any other, and `verify` names both ever after.
"""

from collections.abc import Sequence

from hymunet.registry.ledger import ACKNOWLEDGE, DELETED, Reading
from hymunet.registry.model import opened

SHOWN = 200  # characters of what a changed entry says now


def acknowledge(name: str, numbers: Sequence[int], reason: str, dry_run: bool = False) -> tuple[list[str], int | None]:
    """Accepts that these entries are as they are: what became of each, and the number of the entry that says so.

    One that is changed again later, or deleted, is a fault again. dry_run: only says. Raises ValueError for the number
    of an entry that is in order or acknowledged already.
    """
    with opened(name) as model:
        reading = model.ledger.read()
        still = reading.unaccepted()
        for number in numbers:
            if number not in still:
                named = ", ".join(map(str, still)) or "none"
                raise ValueError(
                    f"entry {number} of the ledger of {name} needs no acknowledgement; those that do: {named}"
                )
        said = [what_became(reading, number) for number in numbers]
        if dry_run:
            return said, None
        state = model.ledger.state_of(reading.entries)
        accepted = {str(number): still[number] for number in numbers}
        states = (f"{number} ({DELETED if became == DELETED else 'changed'})" for number, became in accepted.items())
        why = f"accepted as they are: {', '.join(states)}: {reason}"
        entry = model.ledger.append(ACKNOWLEDGE, "", state, against="", reason=why, accepted=accepted)
        return said, entry.number


def what_became(reading: Reading, number: int) -> str:
    """In words, of an entry that is not as it was written."""
    if reading.faults[number] == DELETED:
        return f"entry {number} of the ledger was deleted; who was champion by it is not known any more"
    text = " ".join(reading.changed[number].split())
    now = f"it says now: {text[:SHOWN]}{'…' * (len(text) > SHOWN)}" if text else "it says nothing now"
    return f"entry {number} of the ledger was changed and does not count; {now}"
