"""A version that is in the registry already, signed; and copied to another model, as from staging to production."""

from hymunet.registry import seal
from hymunet.registry.client import CHALLENGER
from hymunet.registry.fetch import fetched
from hymunet.registry.ledger import CONTENT
from hymunet.registry.model import challenger_of, champion_of, opened
from hymunet.registry.promote import REASON_TAG


def sign(name: str, version: str | None = None, dry_run: bool = False) -> tuple[str, str]:
    """Signs a version, by default the challenger, once all its files are as its manifest says.

    Returns its number and the public key. ValueError without a key, a manifest, or where a file differs.
    """
    if (key := seal.signing_key()) is None:
        raise ValueError(f"name a private key's file in {seal.KEY}; make one with: {seal.HOW_TO_MAKE_ONE}")
    with opened(name) as model:
        versions = model.versions()
        found = versions[challenger_of(model, versions, version)]
        with fetched(model.client, found, whole=True) as (evidence, folder):
            if evidence.seal is None or evidence.seal.problems is None:
                raise ValueError(f"{name} version {found.version} has no {seal.MANIFEST}; register it again")
            if evidence.seal.problems:
                raise ValueError(f"{name} version {found.version} is not signed: {'; '.join(evidence.seal.problems)}")
            content = (folder / seal.MANIFEST).read_bytes()
        tag = seal.signature(content, key)
        if not dry_run:
            model.client.set_model_version_tag(name, str(found.version), seal.SIGNATURE_TAG, tag)
        return str(found.version), seal.signer(content, tag)


def copy(name: str, to: str, version: str | None = None, dry_run: bool = False) -> tuple[str, str | None]:
    """Makes a version, by default the champion, the challenger of the model `to`, which is made if it is not there.

    Returns its number here and there; the same content is copied once. In a rehearsal the second is None where it
    would be made. Artifacts stay where they are.
    """
    if to == name:
        raise ValueError(f"{to} cannot be copied to itself")
    with opened(name) as model:
        client = model.client
        versions = model.versions()
        found = versions[champion_of(model, versions, version)]
        content = found.tags.get(CONTENT, "")
        there = client.search_model_versions(f"name = '{to}' and tags.`{CONTENT}` = '{content}'") if content else []
        number = str(there[0].version) if there else None
        if not dry_run:
            if number is None:
                if not client.search_registered_models(f"name = '{to}'"):
                    client.create_registered_model(to, description=f"Copies of versions of {name}.")
                tags = {key: value for key, value in found.tags.items() if key != REASON_TAG}
                source, run = f"models:/{name}/{found.version}", found.run_id
                copied = client.create_model_version(to, source, run, tags=tags, description=found.description)
                number = str(copied.version)
            client.set_registered_model_alias(to, CHALLENGER, number)
        return str(found.version), number
