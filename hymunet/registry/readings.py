"""`hymunet models`: what only reads, printed for people or, with --json, for programs."""

import argparse
import json
import shutil
from datetime import UTC, datetime
from typing import Any

COLUMNS, NARROWEST = 100, 60  # where no terminal says how wide it is; below that a line of columns would be cut


def run_list(arguments: argparse.Namespace) -> None:
    from hymunet.registry.decision import table
    from hymunet.registry.model import opened

    with opened(name_of(arguments)) as model:
        aliases, versions = model.aliases(), model.versions()
    found: list[dict[str, Any]] = [
        {
            "version": number,
            "dice": _numbers(version.tags),
            "registered": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="minutes"),
            "aliases": sorted(alias for alias, holder in aliases.items() if holder == number),
        }
        for number, version in versions.items()
    ]
    if arguments.json:
        return print_json(found)
    rows = [(row["version"], _estimate(row["dice"]), row["registered"], ", ".join(row["aliases"])) for row in found]
    print("\n".join(table(("version", "test Dice (95 % CI)", "registered", "aliases"), rows)))


def run_show(arguments: argparse.Namespace) -> None:
    from hymunet.registry.decision import table
    from hymunet.registry.model import champion_of, opened

    with opened(name_of(arguments)) as model:
        aliases, versions, entries = model.aliases(), model.versions(), model.ledger.entries()
        number = champion_of(model, versions, arguments.version)
    own = [entry for entry in entries if entry.version == number]
    held = sorted(alias for alias, holder in aliases.items() if holder == number)
    tags = dict(sorted(versions[number].tags.items()))
    if arguments.json:
        decided = [{"entry": entry.number, "kind": entry.kind, "reason": entry.reason} for entry in own]
        return print_json({"version": number, "aliases": held, "tags": tags, "decisions": decided})
    print(f"# {model.name} version {number}" + f" ({', '.join(held)})" * bool(held) + "\n")
    print("\n".join(table(("", ""), tags.items())))
    for entry in own:
        print(f"\nEntry {entry.number}, {entry.when}, {entry.by}: {entry.kind}. {entry.reason}")


def run_history(arguments: argparse.Namespace) -> None:
    from hymunet.registry import decision
    from hymunet.registry.model import opened

    with opened(name_of(arguments)) as model:
        entries = model.ledger.entries()
        state = model.ledger.state_of(entries)
    found = decision.history(entries, state)
    if arguments.json:
        return print_json(found)
    columns = shutil.get_terminal_size((COLUMNS, 0)).columns
    print("\n".join(decision.history_lines(found, max(columns, NARROWEST))))


def run_card(arguments: argparse.Namespace) -> None:
    from hymunet.registry.fetch import text_of
    from hymunet.registry.model import champion_of, opened
    from hymunet.registry.register import CARD

    with opened(name_of(arguments)) as model:
        versions = model.versions()
        number = champion_of(model, versions, arguments.version)
        text = text_of(model.client, versions[number], CARD) or versions[number].description or ""
    if arguments.json:
        return print_json({"version": number, "card": text})
    print(text.rstrip())


def run_page(arguments: argparse.Namespace) -> None:
    from hymunet.registry.model import opened
    from hymunet.registry.page import page
    from hymunet.streams import hand_over, require_place

    if not arguments.dry_run:
        require_place(arguments.output)
    with opened(name_of(arguments)) as model:
        entries = model.ledger.entries()
        text = page(model.name, model.versions(), model.aliases(), entries, model.ledger.state_of(entries))
    if not arguments.dry_run:
        hand_over(text, arguments.output)
    if arguments.json:
        return print_json({"page": str(arguments.output), "bytes": len(text.encode()), "dry_run": arguments.dry_run})
    print(f"{arguments.output}: {'would be ' * arguments.dry_run}written")


def name_of(arguments: argparse.Namespace) -> str:
    from hymunet import params

    return arguments.name or params.load(arguments.params, "register", changes=arguments.set).register.model_name


def _numbers(tags: dict[str, str]) -> dict[str, float] | None:
    from hymunet.registry.page import dice_of

    dice = dice_of(tags)
    return dice and dict(zip(("low", "mean", "high"), dice, strict=True))


def _estimate(dice: dict[str, float] | None) -> str:
    return f"{dice['mean']:.4f} ({dice['low']:.4f} to {dice['high']:.4f})" if dice else "-"


def print_json(content: Any) -> None:
    print(json.dumps(content, indent=2))
