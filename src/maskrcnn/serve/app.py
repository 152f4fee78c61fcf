"""The routes. FastAPI reads the annotations of its functions while it runs, and those name what is imported inside of
`add_*`; so they must not be strings, and this file has no `from __future__ import annotations`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib import resources
from typing import Annotated, Any, Literal

import orjson

from maskrcnn import __version__
from maskrcnn.predict.predictor import Predictor, Prepared
from maskrcnn.serve.answers import Answer, Answers, Health, Masks, Problem, describe, index_png
from maskrcnn.serve.batching import BusyError
from maskrcnn.serve.guard import Guard
from maskrcnn.serve.limits import Limits
from maskrcnn.serve.service import Service
from maskrcnn.serve.uploads import FORMATS, RefusedError

PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
PATHS = frozenset((*PAGE, "/predict", "/predict/batch", "/health", "/metrics", "/openapi.json"))
PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": doc}
    for code, doc in {
        400: "no form that can be read",
        403: "asked by another site's page",
        408: "came too slowly",
        413: "too many bytes, pixels or images",
        415: "not an image",
        421: "asked for another host",
        422: "a damaged image, or a wrong parameter",
        429: "too many requests",
        500: "a mistake of the server",
        503: "too busy, or stopping",
        504: "took too long",
    }.items()
}


def make_app(
    predictor: Predictor, limits: Limits | None = None, *, name: str = "model", hosts: frozenset[str] | None = None
) -> Any:
    """The server as an ASGI app, documented by its /openapi.json. Its `state.service` is a `Service`.

    Args:
        predictor: what answers.
        limits: None: the defaults.
        name: of the model, shown on the page.
        hosts: names that clients may call the server by, None: any.
    """
    from fastapi import FastAPI

    limits = limits or Limits()
    service = Service(predictor, limits, name)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="maskrcnn",
        version=__version__,
        description=f"Objects in images, with masks. At most {limits.megabytes:g} MB a request and "
        f"{limits.megapixels:g} megapixels an image.",
        lifespan=lifespan,
        docs_url=None,  # these pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.service = service
    add_predictions(app, service)
    add_state(app, service)
    add_page(app)
    add_problems(app, limits)
    app.add_middleware(
        Guard, limits=limits, metrics=service.metrics, paths=PATHS, hosts=hosts, check=service.pace.check
    )
    return app


def add_predictions(app: Any, service: Service) -> None:
    """/predict and /predict/batch."""
    from fastapi import File, Query, Request, Response, UploadFile

    limits = service.limits
    Score = Annotated[float, Query(ge=0, le=1, description="weaker objects are left out; below 0.05 there are none")]
    Written = Annotated[Masks, Query(description="how masks are written")]
    one = f"{', '.join(FORMATS)}; how it is turned (EXIF) is obeyed"

    @app.post(
        "/predict",
        summary="Objects in one image",
        response_model=Answer,
        responses={**PROBLEMS, 200: {"content": {"image/png": {}}, "description": "JSON, or a PNG"}},
    )
    async def predict(
        request: Request,
        image: Annotated[UploadFile, File(description=one)],
        output: Annotated[
            Literal["polygons", "rle", "none", "png"],
            Query(description="how masks are written; png: an image where i + 1 is instance i"),
        ] = "polygons",
        score_threshold: Score = 0.5,
    ) -> Response:
        if output == "png" and not service.has_masks:
            raise RefusedError(422, "the model has no mask head; ask for another output than png")
        if len((await request.form()).getlist("image")) > 1:
            raise RefusedError(422, "several images; send one, or all of them to /predict/batch")
        with service.pace.admitted(1):
            async with asyncio.timeout(limits.seconds):
                (found,) = await service.predict([await service.decode(image.file, image.filename, 1)])
                found = found.filter(score=score_threshold)
                if output == "png":
                    return Response(await service.write(index_png, found), media_type="image/png")
                return Response(_json(await service.write(describe, found, output)), media_type="application/json")

    @app.post("/predict/batch", summary="Objects in several images", response_model=Answers, responses=PROBLEMS)
    async def predict_batch(
        images: Annotated[list[UploadFile], File(description=f"at most {limits.images}")],
        output: Written = "polygons",
        score_threshold: Score = 0.5,
    ) -> Response:
        if len(images) > limits.images:
            raise RefusedError(413, f"{len(images)} images, more than {limits.images}; send them in several requests")
        with service.pace.admitted(len(images)):
            async with asyncio.timeout(limits.seconds):
                tries = [await _tried(service, image, number) for number, image in enumerate(images, 1)]
                found = iter(await service.predict([one for one in tries if isinstance(one, Prepared)]))
                answers = [
                    await service.write(describe, next(found).filter(score=score_threshold), output)
                    if isinstance(one, Prepared)
                    else Answer("", 0, 0, [], str(one))
                    for one in tries
                ]
        named = [replace(answer, file=image.filename or "") for answer, image in zip(answers, images, strict=True)]
        return Response(_json(Answers(named)), media_type="application/json")


async def _tried(service: Service, upload: Any, number: int) -> Prepared | RefusedError:
    try:
        return await service.decode(upload.file, upload.filename, number)
    except RefusedError as error:
        return error


def _json(value: Any) -> bytes:
    return orjson.dumps(value)


def add_state(app: Any, service: Service) -> None:
    """/health and /metrics."""
    from fastapi import Response
    from fastapi.responses import PlainTextResponse

    doc = "The model; 503 when the server stops"

    @app.get("/health", summary=doc, response_model=Health, responses={421: PROBLEMS[421], 503: {"model": Health}})
    async def health() -> Response:
        state = service.health()
        return Response(_json(state), 200 if state.status == "ok" else 503, media_type="application/json")

    @app.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse, responses={421: PROBLEMS[421]})
    async def metrics() -> str:
        return service.metrics.text()


def add_page(app: Any) -> None:
    """The page and what it loads, all of it from here."""
    from fastapi import Response

    def always(response: Response) -> Any:
        async def page() -> Response:
            return response

        return page

    for path, (file, kind) in PAGE.items():
        content = resources.files("maskrcnn.serve").joinpath("page", file).read_bytes()
        app.add_api_route(path, always(Response(content, media_type=kind)), include_in_schema=False)


def add_problems(app: Any, limits: Limits) -> None:
    """Errors become a status and one sentence."""
    from fastapi import Request, Response
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    def problem(status: int, sentence: str, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(_json({"detail": sentence}), status, named, media_type="application/json")

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return problem(error.status, str(error))

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:
        return problem(503, str(error), retry_after=str(error.retry))

    @app.exception_handler(TimeoutError)
    async def late(request: Request, error: TimeoutError) -> Response:
        return problem(504, f"no answer within {limits.seconds:g} seconds; try again later", retry_after="5")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place, *where = map(str, first["loc"])
        wrong = "send a file in a form field of this name" if place == "body" else first["msg"]
        return problem(422, f"{'.'.join(where)}: {wrong}"[:500])

    @app.exception_handler(HTTPException)
    async def known(request: Request, error: HTTPException) -> Response:
        told = {404: f"no such page; there are {', '.join(sorted(PATHS - PAGE.keys()))}",
                405: "not in this way; /openapi.json says how"}.get(error.status_code)  # fmt: skip
        if error.status_code == 400:
            told = f"the form cannot be read ({error.detail.rstrip('.')}); send files as multipart/form-data"
        return problem(error.status_code, told or error.detail, **dict(error.headers or {}))
