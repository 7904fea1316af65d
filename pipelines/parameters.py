"""The parameters of a run: a params.yaml or a profile, with single keys changed."""

from pathlib import Path
from typing import Any

from hymunet import params, profiles
from hymunet.overrides import overridden

PROFILES = Path("profiles")


def content(path: Path, profile: str | None, overrides: list[str]) -> dict[str, Any]:
    """The whole content of params.yaml for a run, checked. ValueError names the key, the value and what is allowed."""
    if not profile:
        chosen = params.read_yaml(path)
    else:
        known = sorted(file.stem for file in PROFILES.glob("*.yaml"))
        if profile not in known:
            raise ValueError(f"--profile {profile}: there are {', '.join(known) or f'none in {PROFILES.absolute()}'}")
        chosen = profiles.whole(PROFILES / f"{profile}.yaml")
    chosen = overridden(chosen, overrides)
    params.check(chosen, profile or str(path))
    return chosen
