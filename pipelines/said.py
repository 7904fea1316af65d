"""What an error says, as logs and the records of a run may hold it."""

from hymunet.addresses import without_secrets


def said(error: BaseException) -> str:
    """In one line, without the secrets of addresses: of stores, whose clients name theirs; the kind where it says
    nothing."""
    return without_secrets(" ".join(str(error).split())) or type(error).__name__
