"""What a step may ask for at most, where a cluster's nodes are small."""

import re
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, field_validator

from components.needs import Needs

CPU = re.compile(r"\d+(\.\d+)?|\d+m")
BYTES = re.compile(r"(\d+)(Mi|Gi|Ti)")
EXPONENTS = {"Mi": 20, "Gi": 30, "Ti": 40}


class Most(BaseModel):
    """cpu: processors, `4` or `500m`. memory, disk: `12Gi`. None leaves what a step asks for as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    cpu: str | None = None
    memory: str | None = None
    disk: str | None = None

    @field_validator("cpu")
    @classmethod
    def _is_of_processors(cls, value: str | None) -> str | None:
        if value is not None and not (CPU.fullmatch(value) and _processors(value) > 0):
            raise ValueError(f"{value!r}: expected processors, as 4 or 500m")
        return value

    @field_validator("memory", "disk")
    @classmethod
    def _is_of_bytes(cls, value: str | None) -> str | None:
        if value is not None and not (BYTES.fullmatch(value) and _bytes(value) > 0):
            raise ValueError(f"{value!r}: expected Mi, Gi or Ti, as 12Gi")
        return value

    def of(self, needs: Needs) -> Needs:
        """The needs, each lowered to what is here; /dev/shm to the memory, of which it is a part."""
        lowered = replace(
            needs,
            cpu=min(needs.cpu, self.cpu or needs.cpu, key=_processors),
            memory=min(needs.memory, self.memory or needs.memory, key=_bytes),
            disk=min(needs.disk, self.disk or needs.disk, key=_bytes),
        )
        return replace(lowered, shared_memory=min(lowered.shared_memory, lowered.memory, key=_bytes))


def _processors(text: str) -> float:
    return float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)


def _bytes(text: str) -> int:
    number, unit = BYTES.fullmatch(text).groups()  # type: ignore[union-attr]
    return int(number) << EXPONENTS[unit]
