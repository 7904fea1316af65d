"""MLflow's client before a server that says nothing: it would ask again and again, without a word, for minutes."""

import sys
import threading
from typing import Any
from urllib.parse import urlsplit

from hymunet.addresses import without_secrets

SAID_AFTER = 8.0  # seconds without an answer; longer than the question whether it answers at all may take


def heed_silence() -> None:
    """For this process: what is not answered in time is not asked again, and that it is waited for is said.

    What fails is asked again as before. In MLflow's own module, since no setting of its client tells the two apart.
    """
    from mlflow.utils import request_utils
    from urllib3.exceptions import MaxRetryError, ReadTimeoutError
    from urllib3.util import Retry

    class NotOfSilence(Retry):
        def increment(self, method=None, url=None, response=None, error=None, _pool=None, _stacktrace=None):  # type: ignore[no-untyped-def]
            if isinstance(error, ReadTimeoutError):
                raise MaxRetryError(_pool, url or "", error) from error
            return super().increment(method, url, response, error, _pool, _stacktrace)

    class Telling(request_utils.TCPKeepAliveHTTPAdapter):  # type: ignore[misc]
        def send(self, request: Any, *rest: Any, **options: Any) -> Any:
            waiting = threading.Timer(SAID_AFTER, _tell, [str(request.url), options.get("timeout")])
            waiting.daemon = True
            waiting.start()
            try:
                return super().send(request, *rest, **options)
            finally:
                waiting.cancel()

    if request_utils.Retry is Retry:
        vars(request_utils).update(Retry=NotOfSilence, TCPKeepAliveHTTPAdapter=Telling)
        request_utils._cached_get_request_session.cache_clear()


def _tell(url: str, timeout: float | None) -> None:
    server = without_secrets("{0.scheme}://{0.netloc}".format(urlsplit(url)))
    until = f"; it is given up after {timeout:.0f} s" if timeout else ""
    print(f"MLflow at {server}: no answer after {SAID_AFTER:g} s{until}", file=sys.stderr, flush=True)
