"""The client of object stores that s3fs and DVC have in common, so that it gives up a store that says nothing."""

import functools


@functools.cache
def give_up_in_time() -> None:
    """For the clients that this process makes from now on.

    With `Expect: 100-continue` a PUT waits for the store's leave, and its timeouts begin after that: where no leave
    comes, it waits for ever.
    """
    from botocore import handlers

    handlers.BUILTIN_HANDLERS[:] = [one for one in handlers.BUILTIN_HANDLERS if handlers.add_expect_header not in one]
