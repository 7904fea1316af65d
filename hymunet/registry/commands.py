"""`hymunet models`: options, and what is printed. Everything heavy is imported by the action that needs it."""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hymunet.registry.readings import name_of, print_json, run_card, run_history, run_list, run_page, run_show

Parser = argparse.ArgumentParser


def add(models: Parser, with_params: Callable[[Parser], Parser]) -> None:
    """Adds the actions of `hymunet models`; with_params adds the options of who reads params.yaml."""
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, run: Callable[[argparse.Namespace], None], text: str) -> Parser:
        added = with_params(actions.add_parser(name, help=text, description=text))
        added.add_argument(
            "--name", type=_model_name, help="the registered model (default: register.model_name of the parameters)"
        )
        added.add_argument("--json", action="store_true", help="as JSON, for programs")
        added.set_defaults(run=run)
        return added

    def dry(added: Parser) -> Parser:
        added.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
        return added

    action("list", run_list, "versions, test Dice with its interval, aliases")
    show = action("show", run_show, "all that a version says of itself, and what was decided about it")
    show.add_argument("version", nargs="?", type=_given, help="its number (the champion)")
    compare = action("compare", run_compare, "what the gates say of one version against another; nothing is recorded")
    compare.add_argument("version", nargs="?", type=_given, help="its number (the challenger)")
    compare.add_argument("--against", type=_given, metavar="VERSION", help="the other's number (the champion)")
    promote = dry(
        action("promote", run_promote, "make a version the champion, if it passes every gate of section promote")
    )
    promote.add_argument("version", nargs="?", type=_given, help="its number (the challenger)")
    promote.add_argument("--regardless", action="store_true", help="whatever the gates say; needs --reason")
    promote.add_argument("--reason", metavar="WHY", help="of --regardless; it stays in the ledger")
    rollback = dry(action("rollback", run_rollback, "make an earlier champion the champion again"))
    rollback.add_argument("--to", type=_given, metavar="VERSION", help="its number (the last before the present one)")
    rollback.add_argument("--reason", metavar="WHY", default="", help="it stays in the ledger")
    approve = dry(action("approve", run_approve, "approve what somebody else asked for: the gates, then the champion"))
    approve.add_argument("version", nargs="?", type=_given, help="its number (that of the last open request)")
    approve.add_argument("--reason", metavar="WHY", required=True, help="it stays in the ledger")
    for added in (compare, promote, approve):
        added.add_argument(
            "--rescore",
            nargs="?",
            type=Path,
            const=Path("data/raw"),
            metavar="RAW",
            help="score the champion on the challenger's test images where they differ; RAW: what the download step "
            "wrote for them (data/raw)",
        )
    for added in (promote, approve, rollback):
        added.add_argument(
            "--notify", type=_given, metavar="URL", help="tell the decision to this address, signed with a secret"
        )
    sign = dry(action("sign", run_sign, "sign a version's files with the key that HYMUNET_SIGNING_KEY names"))
    sign.add_argument("version", nargs="?", type=_given, help="its number (the challenger)")
    copy = dry(
        action("copy", run_copy, "make a version the challenger of another model, as from staging to production")
    )
    copy.add_argument("version", nargs="?", type=_given, help="its number (the champion)")
    copy.add_argument("--to", type=_model_name, metavar="NAME", required=True, help="the other registered model")
    card = action("card", run_card, "the model card of a version")
    card.add_argument("version", nargs="?", type=_given, help="its number (the champion)")
    page = dry(action("page", run_page, "write one page with versions, intervals and decisions"))
    page.add_argument("--output", type=Path, default=Path("registry.html"), help="the HTML file (registry.html)")
    accept = dry(
        action("acknowledge", run_acknowledge, "accept that entries of the ledger were deleted or changed, and go on")
    )
    accept.add_argument("entry", nargs="+", type=_entry_number, help="the numbers that verify names")
    accept.add_argument("--reason", metavar="WHY", required=True, help="what was found out; it stays in the ledger")
    action("history", run_history, "every decision, the oldest first")
    dry(
        action(
            "verify", run_verify, "whether the alias champion, the ledger and the champion's files agree; set it right"
        )
    )


def _given(text: str) -> str:
    """An empty one, as of a shell's variable that is not set, would mean the model or the version of the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; leave it out for the default, or give a value")
    return text


def _entry_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no entry's number; see: hymunet models verify")
    return int(text)


def _model_name(text: str) -> str:
    from hymunet.params import MODEL_NAME
    from hymunet.registry.ledger import SUFFIX

    if not re.fullmatch(MODEL_NAME, _given(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no model's name; expected letters, digits, _ . -, at most 128")
    if text.endswith(SUFFIX):
        raise argparse.ArgumentTypeError(
            f"{text} is a ledger; name its model, {text.removesuffix(SUFFIX)}, and read it with: hymunet models history"
        )
    return text


def run_compare(arguments: argparse.Namespace) -> None:
    from hymunet.registry.promote import compare

    name, policy, rescore = _asked(arguments)
    _say(arguments, compare(name, policy, arguments.version, arguments.against, rescore), carried_out=False)


def run_promote(arguments: argparse.Namespace) -> None:
    from hymunet.registry.notify import notifier
    from hymunet.registry.promote import promote

    reason = arguments.reason.strip() if arguments.reason else None
    if arguments.regardless and not reason:
        raise ValueError("--regardless needs --reason WHY: it stays in the ledger")
    if reason and not arguments.regardless:
        raise ValueError("--reason belongs to --regardless: else the gates' figures are the reason")
    name, policy, rescore = _asked(arguments)
    tell = notifier(arguments.notify)
    _concluded(arguments, promote(name, policy, arguments.version, reason, arguments.dry_run, rescore), tell)


def run_approve(arguments: argparse.Namespace) -> None:
    from hymunet.registry.notify import notifier
    from hymunet.registry.promote import approve

    if not (reason := arguments.reason.strip()):
        raise ValueError("--reason is empty; say why it may become the champion")
    name, policy, rescore = _asked(arguments)
    tell = notifier(arguments.notify)
    _concluded(arguments, approve(name, policy, reason, arguments.version, arguments.dry_run, rescore), tell)


def run_rollback(arguments: argparse.Namespace) -> None:
    from hymunet.registry.notify import notifier
    from hymunet.registry.promote import rollback

    name, tell = name_of(arguments), notifier(arguments.notify)
    lost, gained = rollback(name, arguments.to, arguments.reason, arguments.dry_run)
    if not arguments.dry_run:
        event = {"event": "rollback", "model": name, "version": gained, "against": lost, "reason": arguments.reason}
        _warn(tell(event))
    if arguments.json:
        return print_json({"model": name, "lost": lost, "champion": gained, "dry_run": arguments.dry_run})
    would = "would be" if arguments.dry_run else "is"
    instead = f"version {lost} no longer" if lost != "none" else "the one after it was deleted"
    print(f"{name}: version {gained} {would} champion again, {instead}")


def run_verify(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from hymunet.registry.verify import verify
    from hymunet.registry.words import counted

    found = verify(name_of(arguments), arguments.dry_run)
    if arguments.json:
        print_json(asdict(found))
    else:
        champion = f"version {found.champion} is champion" if found.champion else "no champion"
        print(f"{found.model}: {champion}, {counted(found.entries, 'entry', 'entries')} in the ledger")
        for text in found.accepted:
            print(f"accepted: {text}")
        for finding in found.findings:
            print(f"{'mended' if finding.mended else 'not in order'}: {finding.text}")
    if any(not finding.mended for finding in found.findings):
        raise ValueError("the registry is not in order")


def run_acknowledge(arguments: argparse.Namespace) -> None:
    from hymunet.registry.acknowledge import acknowledge

    if not (reason := arguments.reason.strip()):
        raise ValueError("--reason is empty; say what was found out, and why it may stay so")
    name = name_of(arguments)
    said, number = acknowledge(name, arguments.entry, reason, arguments.dry_run)
    if arguments.json:
        return print_json({"model": name, "accepted": said, "entry": number, "dry_run": arguments.dry_run})
    for text in said:
        print(f"{'would be ' * arguments.dry_run}accepted: {text}")
    if number is not None:
        print(f"Entry {number} of the ledger says so.")


def run_sign(arguments: argparse.Namespace) -> None:
    from hymunet.registry.sign import sign

    name = name_of(arguments)
    version, key = sign(name, arguments.version, arguments.dry_run)
    if arguments.json:
        return print_json({"model": name, "version": version, "public_key": key, "dry_run": arguments.dry_run})
    print(f"{name} version {version} {'would be' if arguments.dry_run else 'is'} signed; for promote.signed_by: {key}")


def run_copy(arguments: argparse.Namespace) -> None:
    from hymunet.registry.sign import copy

    name = name_of(arguments)
    version, there = copy(name, arguments.to, arguments.version, arguments.dry_run)
    if arguments.json:
        other = {"to": arguments.to, "version_there": there, "dry_run": arguments.dry_run}
        return print_json({"model": name, "version": version, **other})
    would = "would be" if arguments.dry_run else "is"
    number = f" as version {there}" if there else ""
    print(f"{name} version {version} {would} the challenger of {arguments.to}{number}")


def _concluded(arguments: argparse.Namespace, decision: Any, tell: Callable[[Any], str | None]) -> None:
    from hymunet.registry.decision import record

    _say(arguments, decision, carried_out=not arguments.dry_run)
    if not arguments.dry_run and decision.kind != "none":
        _warn(tell({"event": decision.kind, **record(decision)}))
    if decision.kind == "refuse":
        raise ValueError(f"not promoted: {decision.reason}")


def _warn(problem: str | None) -> None:
    """On standard error: what was decided stands."""
    if problem:
        print(f"hymunet models: {problem}", file=sys.stderr)


def _say(arguments: argparse.Namespace, decision: Any, carried_out: bool) -> None:
    from hymunet.registry.decision import markdown, record

    if arguments.json:
        return print_json(record(decision))
    print(markdown(decision, carried_out))


def _asked(arguments: argparse.Namespace) -> tuple[str, Any, Any]:
    """The model's name, the policy, and whether and from where the champion is scored again."""
    from functools import partial

    from hymunet import params

    loaded = params.load(arguments.params, "prepare", "register", "promote", changes=arguments.set)
    way = loaded.prepare.masks_on
    rescore = None
    if arguments.rescore:
        from hymunet.registry.rescore import rescored

        rescore = partial(rescored, raw=arguments.rescore, masks_on=None if way == "auto" else way)
    return arguments.name or loaded.register.model_name, loaded.promote, rescore
