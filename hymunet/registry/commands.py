"""`hymunet models`: options, and what is printed. Everything heavy is imported by the action that needs it."""

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Parser = argparse.ArgumentParser


def add(models: Parser, with_params: Callable[[Parser], Parser]) -> None:
    """Adds the actions of `hymunet models`; with_params adds the options of who reads params.yaml."""
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, run: Callable[[argparse.Namespace], None], text: str) -> Parser:
        added = with_params(actions.add_parser(name, help=text, description=text))
        added.add_argument("--name", help="the registered model (default: register.model_name of the parameters)")
        added.add_argument("--json", action="store_true", help="as JSON, for programs")
        added.set_defaults(run=run)
        return added

    def dry(added: Parser) -> Parser:
        added.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        return added

    action("list", run_list, "versions, test Dice with its interval, aliases")
    show = action("show", run_show, "all that a version says of itself, and what was decided about it")
    show.add_argument("version", nargs="?", help="its number (the champion)")
    compare = action("compare", run_compare, "what the gates say of one version against another; nothing is recorded")
    compare.add_argument("version", nargs="?", help="its number (the challenger)")
    compare.add_argument("--against", metavar="VERSION", help="the other's number (the champion)")
    promote = dry(
        action("promote", run_promote, "make a version the champion, if it passes every gate of section promote")
    )
    promote.add_argument("version", nargs="?", help="its number (the challenger)")
    promote.add_argument("--regardless", action="store_true", help="whatever the gates say; needs --reason")
    promote.add_argument("--reason", metavar="WHY", help="of --regardless; it stays in the ledger")
    rollback = dry(action("rollback", run_rollback, "make an earlier champion the champion again"))
    rollback.add_argument("--to", metavar="VERSION", help="its number (the last before the present one)")
    rollback.add_argument("--reason", metavar="WHY", default="", help="it stays in the ledger")
    action("history", run_history, "every decision, the oldest first")
    dry(
        action(
            "verify", run_verify, "whether the alias champion, the ledger and the champion's files agree; set it right"
        )
    )


def run_list(arguments: argparse.Namespace) -> None:
    from hymunet.registry.decision import table
    from hymunet.registry.promote import opened

    with opened(_name(arguments)) as model:
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
        return _json(found)
    rows = [(row["version"], _estimate(row["dice"]), row["registered"], ", ".join(row["aliases"])) for row in found]
    print("\n".join(table(("version", "test Dice (95 % CI)", "registered", "aliases"), rows)))


def run_show(arguments: argparse.Namespace) -> None:
    from hymunet.registry.client import CHAMPION
    from hymunet.registry.decision import table
    from hymunet.registry.promote import opened

    with opened(_name(arguments)) as model:
        aliases, versions, entries = model.aliases(), model.versions(), model.ledger.entries()
    number = arguments.version or aliases.get(CHAMPION, "")
    if number not in versions:
        raise ValueError(
            f"{model.name} has no {f'version {number}' if number else 'champion'}; see: hymunet models list"
        )
    own = [entry for entry in entries if entry.version == number]
    held = sorted(alias for alias, holder in aliases.items() if holder == number)
    tags = dict(sorted(versions[number].tags.items()))
    if arguments.json:
        decided = [{"entry": entry.number, "kind": entry.kind, "reason": entry.reason} for entry in own]
        return _json({"version": number, "aliases": held, "tags": tags, "decisions": decided})
    print(f"# {model.name} version {number}" + f" ({', '.join(held)})" * bool(held) + "\n")
    print("\n".join(table(("", ""), tags.items())))
    for entry in own:
        print(f"\nEntry {entry.number}, {entry.when}, {entry.by}: {entry.kind}. {entry.reason}")


def run_compare(arguments: argparse.Namespace) -> None:
    from hymunet.registry.promote import compare

    name, policy = _name_and_policy(arguments)
    _say(arguments, compare(name, policy, arguments.version, arguments.against))


def run_promote(arguments: argparse.Namespace) -> None:
    from hymunet.registry.promote import promote

    reason = arguments.reason.strip() if arguments.reason else None
    if arguments.regardless and not reason:
        raise ValueError("--regardless needs --reason WHY: it stays in the ledger")
    if reason and not arguments.regardless:
        raise ValueError("--reason belongs to --regardless: else the gates' figures are the reason")
    name, policy = _name_and_policy(arguments)
    decision = promote(name, policy, arguments.version, reason, arguments.dry_run)
    _say(arguments, decision)
    if not decision.promoted:
        raise ValueError(f"not promoted: {decision.reason}")


def run_rollback(arguments: argparse.Namespace) -> None:
    from hymunet.registry.promote import rollback

    name = _name(arguments)
    lost, gained = rollback(name, arguments.to, arguments.reason, arguments.dry_run)
    if arguments.json:
        return _json({"model": name, "lost": lost, "champion": gained, "dry_run": arguments.dry_run})
    would = "would be" if arguments.dry_run else "is"
    print(f"{name}: version {gained} {would} champion again, version {lost} no longer")


def run_history(arguments: argparse.Namespace) -> None:
    from hymunet.registry import decision
    from hymunet.registry.promote import opened

    with opened(_name(arguments)) as model:
        entries, state = model.ledger.entries(), model.ledger.state()
    found = decision.history(entries, state)
    if arguments.json:
        return _json(found)
    rows = [
        (
            str(row["number"]),
            row["when"],
            row["by"],
            row["kind"] if row["holds"] else f"{row['kind']} (void: came second)",
            row["version"],
            row["against"] or "-",
            row["reason"] or "no reason given",
        )
        for row in found
    ]
    print("\n".join(decision.table(("entry", "when", "by", "kind", "version", "champion then", "reason"), rows)))


def run_verify(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from hymunet.registry.verify import verify
    from hymunet.registry.words import counted

    found = verify(_name(arguments), arguments.dry_run)
    if arguments.json:
        _json(asdict(found))
    else:
        champion = f"version {found.champion} is champion" if found.champion else "no champion"
        print(f"{found.model}: {champion}, {counted(found.entries, 'entry', 'entries')} in the ledger")
        for finding in found.findings:
            print(f"{'mended' if finding.mended else 'not in order'}: {finding.text}")
    if any(not finding.mended for finding in found.findings):
        raise ValueError("the registry is not in order")


def _say(arguments: argparse.Namespace, decision: Any) -> None:
    from hymunet.registry.decision import markdown, record

    if arguments.json:
        return _json(record(decision))
    print(markdown(decision))


def _name(arguments: argparse.Namespace) -> str:
    from hymunet import params

    return arguments.name or params.load(arguments.params, "register", changes=arguments.set).register.model_name


def _name_and_policy(arguments: argparse.Namespace) -> tuple[str, Any]:
    from hymunet import params

    loaded = params.load(arguments.params, "register", "promote", changes=arguments.set)
    return arguments.name or loaded.register.model_name, loaded.promote


def _numbers(tags: dict[str, str]) -> dict[str, float] | None:
    if "test.dice" not in tags:
        return None
    return {key: float(tags[f"test.dice{end}"]) for key, end in (("mean", ""), ("low", ".low"), ("high", ".high"))}


def _estimate(dice: dict[str, float] | None) -> str:
    return f"{dice['mean']:.4f} ({dice['low']:.4f} to {dice['high']:.4f})" if dice else "-"


def _json(content: Any) -> None:
    print(json.dumps(content, indent=2))
