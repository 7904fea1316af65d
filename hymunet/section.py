"""What sections of params.yaml are made of: strict, closed, unchangeable once read; and what is said of a wrong one."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Range = Annotated[list[Fraction], Field(min_length=2, max_length=2)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


UNION_PARTS = ("constrained", "literal", "float", "list[")  # what pydantic puts into a place to say which alternative


def explain(problem: Any) -> str:
    """An error of pydantic's in words: key, value, what is allowed."""
    key = ".".join(str(part) for part in problem["loc"] if not str(part).startswith(UNION_PARTS))
    if problem["type"] == "value_error":
        said = str(problem["ctx"]["error"])
        return f"{key} = {said}" if key else said
    if not key:
        return f"expected keys with values, found {problem['input']!r:.40}"
    if problem["type"] in ("missing", "extra_forbidden"):
        return f"{key}: {'is missing' if problem['type'] == 'missing' else 'unknown key'}"
    said = problem["msg"].partition(" or instance of ")[0]
    return f"{key} = {problem['input']!r:.100}: {said[0].lower()}{said[1:]}"
