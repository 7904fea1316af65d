"""The HTTP side: an image in, a mask out; what watches the server; and the page to try it on."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from hymunet import __version__, images
from hymunet.processors import processors
from hymunet.serving import intake, samples
from hymunet.serving.answer import Answer, Output, wanted
from hymunet.serving.batching import Batcher
from hymunet.serving.contract import BODY, CODES, GONE, HEADERS, SEGMENT
from hymunet.serving.follow import Follower
from hymunet.serving.limits import Admission, Limits, Refused
from hymunet.serving.presence import unless_gone
from hymunet.serving.telemetry import Telemetry

PAGE = Path(__file__).with_name("page")
log = logging.getLogger("hymunet.serving")


class Service:
    """What answers share. key: asked of every client where it is not empty."""

    def __init__(self, model: str, follow_seconds: float, limits: Limits, key: str) -> None:
        self.limits, self.draining, self._key = limits, False, os.fsencode(key)  # a header is bytes
        self.telemetry, self.admission = Telemetry(), Admission(limits.queue)
        self.telemetry.in_flight.set_function(lambda: self.admission.count)
        self.follower = Follower(model, follow_seconds, self.telemetry.followed)
        self.batcher = Batcher(limits.batch, self._computed)
        self.pool = ThreadPoolExecutor(processors(), thread_name_prefix="pixels")

    def close(self) -> None:
        self.follower.stop()
        self.batcher.stop()
        self.pool.shutdown()

    def _computed(self, size: int, seconds: float) -> None:
        self.telemetry.batch(size, seconds)
        self.admission.took(seconds / size)

    @property
    def locked(self) -> bool:
        return bool(self._key)

    def check_key(self, request: Request) -> None:
        """Raises Refused (401) without the right key; in the time that any wrong one takes."""
        given = request.headers.get("x-api-key", "") or request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.locked and not hmac.compare_digest(given.encode("latin-1"), self._key):
            raise Refused(401, "a key is needed: X-API-Key: KEY, or Authorization: Bearer KEY")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        with self.telemetry.stages.labels(name).time():
            yield

    async def segment(self, request: Request, output: Output) -> bytes | dict[str, Any]:
        """Raises Refused for what gets no answer."""
        with self.admission.slot():
            with self.stage("upload"):
                content = await intake.content(request, self.limits)
            try:
                async with asyncio.timeout(self.limits.seconds):
                    return await unless_gone(request, self._answer(content, output))
            except TimeoutError:
                reason = f"no answer within {self.limits.seconds:g} s; come again"
                raise Refused(503, reason, self.admission.retry_after) from None

    async def _answer(self, content: bytes, output: Output) -> bytes | dict[str, Any]:
        loop, loaded = asyncio.get_running_loop(), self.follower.loaded

        def prepare() -> tuple[tuple[int, int], np.ndarray]:
            image = intake.decode(content, self.limits)
            height, width = image.shape[:2]
            return (height, width), images.resize(image, loaded.segmenter.image_size)

        with self.stage("decode"):
            shape, small = await loop.run_in_executor(self.pool, prepare)
        with self.stage("model"):
            probability = await asyncio.wrap_future(self.batcher.submit(loaded.segmenter, small))
        with self.stage("encode"):
            answer = Answer(loaded, probability, shape, lambda: intake.decode(content, self.limits))
            return await loop.run_in_executor(self.pool, answer.rendered, output)


def create_app(model: str, follow_seconds: float = 10.0, limits: Limits | None = None, key: str = "") -> FastAPI:
    """The application; it owns threads until its shutdown. `app.state.service` is what it shares.

    model: a trained model's folder, models:/NAME@ALIAS or models:/NAME/VERSION. Raises ValueError when it cannot be
    loaded.
    """
    service = Service(model, follow_seconds, limits or Limits(), key)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="HyM-UNet",
        version=__version__,
        description="Segments medical images. For research use; not a medical device.",
        lifespan=lifespan,
        docs_url=None,  # both pages fetch scripts from the network
        redoc_url=None,
    )
    app.state.service = service
    _guard(app, service)
    _answers(app, service)
    _watches(app, service)
    _shows(app)
    return app


def _answers(app: FastAPI, service: Service) -> None:
    keys = (APIKeyHeader(name="X-API-Key", auto_error=False), HTTPBearer(auto_error=False))  # for the description alone
    asked = [Security(key) for key in keys] if service.locked else []

    @app.post(SEGMENT, responses=CODES, openapi_extra=BODY, dependencies=asked, summary="The mask of one image")
    async def segment(
        request: Request,
        output: Annotated[Output | None, Query(description="In place of the header Accept.")] = None,
    ) -> Response:
        start, status = time.perf_counter(), 500
        try:
            service.check_key(request)
            chosen = output or wanted(",".join(request.headers.getlist("accept")))
            found = await service.segment(request, chosen)
            status = 200
            return Response(found, media_type="image/png") if isinstance(found, bytes) else JSONResponse(found)
        except Refused as refused:
            status = refused.status
            raise
        except ClientDisconnect:
            status = GONE
            return Response(status_code=400)  # which nobody hears
        finally:
            service.telemetry.requests.labels(status).inc()
            service.telemetry.seconds.observe(time.perf_counter() - start)

    @app.get("/v1/model", summary="Which model answers, and the server's limits")
    async def model() -> dict[str, Any]:
        loaded, limits = service.follower.loaded, service.limits
        name = loaded.segmenter.info["model"]["name"]
        return {
            "model": {"source": loaded.source, "weights_sha256": loaded.weights, "name": name},
            "image_size": loaded.segmenter.image_size,
            "threshold": loaded.segmenter.threshold,
            "decides": loaded.decides,
            "needs_key": service.locked,
            "max_bytes": limits.max_bytes,
            "max_pixels": limits.max_pixels,
        }


def _watches(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="200 while the process can compute")
    async def health() -> dict[str, str]:
        if not service.batcher.alive:
            raise Refused(503, "the model's thread has ended; start the server again")
        return {"status": "alive"}

    @app.get("/ready", summary="200 while new requests are welcome")
    async def ready() -> dict[str, str]:
        if service.draining or not service.batcher.alive:
            raise Refused(503, "the server is about to stop", 1)
        return {"status": "ready", "model": service.follower.loaded.source}

    @app.get("/metrics", summary="Prometheus", response_class=Response)
    async def metrics() -> Response:
        loaded = service.follower.loaded
        return Response(service.telemetry.text(loaded.source, loaded.weights), media_type=CONTENT_TYPE_LATEST)


def _shows(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/samples/{number}.png", include_in_schema=False)
    async def sample(number: int) -> Response:
        if not 0 <= number < samples.COUNT:
            raise Refused(404, f"samples are numbered from 0 to {samples.COUNT - 1}")
        content = await asyncio.to_thread(samples.sample, number)
        return Response(content, media_type="image/png", headers={"Cache-Control": "max-age=3600"})

    app.mount("/page", StaticFiles(directory=PAGE))


def _guard(app: FastAPI, service: Service) -> None:
    """Every answer's headers, and one form for every error: {"error": "..."}"""

    @app.middleware("http")
    async def headers(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await proceed(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if moved := response.headers.get("location"):  # to an address here: what a proxy calls it, only that one knows
            response.headers["location"] = urlsplit(moved)._replace(scheme="", netloc="").geturl()
        if service.draining:
            response.headers["Connection"] = "close"
        return response

    app.add_middleware(Heads)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        after = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
        asks = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        return JSONResponse({"error": error.reason}, error.status, {**after, **asks})

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        return JSONResponse({"error": found}, 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        reason = _elsewhere(request, error) or str(error.detail)
        return JSONResponse({"error": reason}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "the server failed; its log says why"}, 500, HEADERS)


def _elsewhere(request: Request, error: HTTPException) -> str | None:
    """Where to turn instead, for an address or a method that nothing answers."""
    asked = f"{request.url.path:.100}"
    if error.status_code == 404:
        return f"nothing is at {asked}; POST an image to /v1/segment, see the page at / or the list in /openapi.json"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return f"{asked} does not answer {request.method} but {allowed}; /openapi.json says what to send"
    return None


class Heads:
    """HEAD is answered as GET is, as load balancers and monitors ask; uvicorn leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
        await self.app(asked, receive, send)
