"""The HTTP interface: maps, queries, changes of maps, health, metrics and the page."""

import asyncio
import concurrent.futures
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar

import numpy as np

import jaxreloc
from jaxreloc.extras import extra
from jaxreloc.formats.frames import PosedFrames
from jaxreloc.localization.jobs import building
from jaxreloc.localization.map import map_files
from jaxreloc.serving import page_files, uploads
from jaxreloc.serving.answering import answers
from jaxreloc.serving.answering.batching import Answer, BatchingWorker, Question, QueueFull
from jaxreloc.serving.answering.map_shelf import (
    Busy,
    MapShelf,
    MapUnreadable,
    OpenMap,
    UnknownMap,
)
from jaxreloc.serving.answering.match_lines import match_lines
from jaxreloc.serving.request_limits import BodyLimits, Limits, Refused, check_token
from jaxreloc.serving.request_log import RequestLog, error_response, note
from jaxreloc.serving.server_metrics import ServerMetrics
from jaxreloc.usage import UsageError, one_line

with extra("serve"):
    import python_multipart  # noqa: F401, which FastAPI takes forms apart with
    from fastapi import FastAPI, File, Form, Request, Response, UploadFile
    from fastapi.exceptions import RequestValidationError
    from fastapi.middleware.cors import CORSMiddleware
    from fastapi.responses import JSONResponse
    from fastapi.routing import APIRoute
    from starlette.exceptions import HTTPException

T = TypeVar("T")
EXAMPLE = {
    "name": "kitchen.jpg",
    "success": True,
    "total_ms": 147.2,
    "world_from_cam": [[1, 0, 0, 0.5], [0, 1, 0, 1.6], [0, 0, 1, 2.0], [0, 0, 0, 1]],
    "confidence": 0.98,
    "num_inliers": 9,
    "num_neighbors": 10,
    "covariance_world": "6 rows of 6",
    "covariance_camera": "6 rows of 6",
    "scale_source": "database_poses",
    "turn_deg": 0,
    "focal_factor": 1.0,
    "map": "house",
    "neighbors": [{"image": "0001.jpg", "agrees": True}],
    "camera": dict(fx=1500, fy=1500, cx=959.5, cy=539.5, width=1920, height=1080, source="exif"),
}
EXAMPLE_ERROR = {"error": "the picture is empty; send a JPEG, PNG or WebP file", "request": "7f3a"}
PROBLEMS = {
    400: "The request is no form, or the picture is empty.",
    404: "There is no such map.",
    408: "The request did not arrive in time.",
    413: "The request has too many bytes, or the picture too many pixels.",
    415: "The picture cannot be read.",
    422: "A field is wrong or missing.",
    429: "Too many queries wait; Retry-After says when to come again.",
    503: "There was no answer in time, or the map cannot be opened.",
}
# Status, sentence and headers.
MAP_PROBLEMS = {
    UnknownMap: (404, "there is no map of this name; see /maps"),
    MapUnreadable: (503, "the map cannot be opened; the server's log says why"),
    Busy: (409, "another change of a map is going on; try again", {"Retry-After": "5"}),
}
Picture = Annotated[UploadFile, File(description="JPEG, PNG, WebP, BMP or TIFF.")]
Focal = Annotated[
    float | None,
    Form(description="Pixels of the upright picture; without, EXIF's, or else the map's."),
]
Centre = Annotated[float | None, Form(description="Pixels; (0, 0) is a pixel's centre.")]
Near = Annotated[
    str | None,
    Form(description="x,y,z,radius: only images of the map taken there are neighbours."),
]


class Server:
    """What the handlers share."""

    def __init__(self, shelf: MapShelf, limits: Limits, write_token: str | None):
        self.shelf = shelf
        self.limits = limits
        self.write_token = write_token
        self.worker = BatchingWorker(max_waiting=limits.max_waiting)
        self.metrics = ServerMetrics(shelf, self.worker)
        self._decoding = concurrent.futures.ThreadPoolExecutor(os.cpu_count(), "decoding")

    async def open(self, name: str) -> OpenMap:
        """The map, which may have to be opened first."""
        return await asyncio.wrap_future(self.shelf.get(name))

    async def decode(
        self, picture: UploadFile, given: uploads.Numbers, opened: OpenMap
    ) -> uploads.Upload:
        """The picture of a request, decoded beside the event loop."""
        encoded = await picture.read()
        read = functools.partial(
            uploads.read_upload, encoded, given, opened, self.limits.max_pixels
        )
        return await asyncio.get_running_loop().run_in_executor(self._decoding, read)

    async def localize(
        self,
        name: str,
        picture: UploadFile,
        given: uploads.Numbers,
        near: str | None,
        with_matches: bool,
    ) -> dict[str, Any]:
        """The answer to a query; of a map whose files were just taken away, of the new one."""
        self.worker.check_room()
        opened = await self.open(name)
        upload = await self.decode(picture, given, opened)
        try:
            answer = await self._ask(opened, upload, near, with_matches)
        except UsageError:
            renewed = await asyncio.wrap_future(self.shelf.renewed(name))
            if renewed is opened:
                raise
            opened = renewed
            answer = await self._ask(opened, upload, near, with_matches)
        self.metrics.query(opened.name, answer)
        told = "localized" if answer.found.success else "refused"
        note(f"{told} in a batch of {answer.batch} after {1e3 * answer.waited_s:.0f} ms of waiting")
        file_name = one_line(picture.filename or "picture")
        result = answers.localization(opened, file_name, answer.found, answer.more)
        return result | {
            "camera": answers.camera(upload, answer.found)
        }

    async def _ask(
        self, opened: OpenMap, upload: uploads.Upload, near: str | None, with_matches: bool
    ) -> Answer:
        question = Question(
            opened.localizer,
            upload.image,
            upload.intrinsics,
            upload.focal_deviation,
            uploads.read_prior(near, opened.localizer.scene_map),
        )
        if with_matches:
            drawn = functools.partial(match_lines, question)
            question = Question(**{**vars(question), "then": drawn})
        return await asyncio.wrap_future(self.worker.ask(question))

    async def add_image(
        self, name: str, image: str, picture: UploadFile, given: uploads.Numbers, pose: str
    ) -> dict[str, Any]:
        """Adds a posed picture to a map on disk."""
        image, world_from_cam = uploads.read_name(image), uploads.read_pose(pose)
        opened = await self.open(name)
        if image in opened.localizer.scene_map.names:
            raise Refused(409, f"{image!r} is in the map already; give another as name")
        upload = await self.decode(picture, given, opened)
        frames = PosedFrames(
            scene=name,
            names=(image,),
            world_from_cam=world_from_cam[None],
            intrinsics=upload.intrinsics[None],
            image_sizes=np.array([upload.image.shape[1::-1]]),
            images=[upload.image],
        )
        scene_map = opened.localizer.scene_map
        await self._change(name, lambda folder: building.add_frames(folder, frames, scene_map))
        return {"map": name, "image": image, "images": await self._count(name)}

    async def remove_image(self, name: str, image: str) -> dict[str, Any]:
        """Takes a picture out of a map on disk."""
        opened = await self.open(name)
        if image not in opened.localizer.scene_map.names:
            raise Refused(404, "the map has no image of this name")
        await self._change(name, lambda folder: map_files.remove(folder, [image]))
        return {"map": name, "image": image, "images": await self._count(name)}

    async def _change(self, name: str, job: Callable[[os.PathLike], None]) -> None:
        """Goes on to its end if the client leaves."""
        try:
            await asyncio.shield(asyncio.wrap_future(self.shelf.change(name, job)))
        except UsageError as error:
            raise Refused(409, f"the map was not changed: {one_line(error)}") from error

    async def _count(self, name: str) -> int:
        opened = await asyncio.wrap_future(self.shelf.renewed(name))
        return len(opened.localizer.scene_map)

    async def start(self) -> None:
        """Opens the first map that can be opened."""
        for name in self.shelf.names():
            with contextlib.suppress(MapUnreadable, UnknownMap):
                await self.open(name)
                return

    def close(self) -> None:
        """Ends the threads, after what they do."""
        self.worker.close()
        self.shelf.close()
        self._decoding.shutdown()


async def while_connected(request: Request, limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client leaves or the time is over."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_client_leaves(request))
    try:
        await asyncio.wait(
            {working, leaving}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        if working.done():
            return working.result()
        if leaving.done():
            raise Refused(499, "the client has left")
        raise Refused(
            503, f"there was no answer within {limit_s:g} s; try again", {"Retry-After": "5"}
        )
    finally:
        leaving.cancel()
        working.cancel()


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_application(
    shelf: MapShelf,
    *,
    limits: Limits = Limits(),
    write_token: str | None = None,
    cors_origins: tuple[str, ...] = (),
) -> RequestLog:
    """The ASGI application of the maps on a shelf.

    Args:
      write_token: with it maps may be changed; None: by nobody.
      cors_origins: whose pages may ask from within a browser, besides the server's own.
    """
    server = Server(shelf, limits, write_token)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.ensure_future(server.start())
        yield
        starting.cancel()
        await asyncio.to_thread(server.close)

    api = FastAPI(
        title="jaxreloc",
        version=jaxreloc.__version__,
        summary="Where a picture was taken, in maps of photographs with known poses.",
        lifespan=lifespan,
        docs_url=None,  # these fetch their scripts from elsewhere
        redoc_url=None,
    )
    _add_queries(api, server)
    _add_changes(api, server)
    _add_health(api, server)
    page_files.add_routes(api)
    _add_problems(api)
    if cors_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    return RequestLog(BodyLimits(api, limits), server.metrics)


def _add_queries(api: FastAPI, server: Server) -> None:
    problems = {status: _problem(status) for status in PROBLEMS}

    @api.get("/maps", summary="The maps, and which of them are in memory")
    def maps() -> list[dict[str, Any]]:
        opened = {known.name: known for known in server.shelf.open_maps()}
        return [
            answers.described(opened[name]) | {"open": True}
            if name in opened
            else {"name": name, "open": False}
            for name in server.shelf.names()
        ]

    @api.get("/maps/{name}", summary="A map in short", responses={404: _problem(404)})
    async def described(name: str) -> dict[str, Any]:
        return answers.described(await server.open(name)) | {"open": True}

    @api.get(
        "/maps/{name}/cameras",
        summary="The map's cameras and points, to be looked at",
        responses={404: _problem(404)},
    )
    async def cameras(name: str) -> dict[str, Any]:
        opened = await server.open(name)
        return await asyncio.to_thread(answers.cameras, opened.localizer.scene_map)

    @api.get(
        "/maps/{name}/images/{image:path}",
        summary="A picture of the map, as the network saw it",
        responses={404: _problem(404), 200: {"content": {"image/jpeg": {}}}},
        response_class=Response,
    )
    async def picture_of(name: str, image: str) -> Response:
        scene_map = (await server.open(name)).localizer.scene_map
        if image not in scene_map.names:
            raise Refused(404, "the map has no image of this name")
        jpeg = await asyncio.to_thread(
            lambda: bytes(scene_map.pictures[scene_map.names.index(image)])
        )
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "max-age=60"})

    @api.post(
        "/maps/{name}/localize",
        summary="Where a picture was taken",
        responses={200: {"content": {"application/json": {"example": EXAMPLE}}}, **problems},
    )
    async def localize(
        request: Request,
        name: str,
        picture: Picture,
        fx: Focal = None,
        fy: Focal = None,
        cx: Centre = None,
        cy: Centre = None,
        near: Near = None,
        matches: Annotated[bool, Form(description="Send matches to draw, too.")] = False,
    ) -> Response:
        work = server.localize(name, picture, (fx, fy, cx, cy), near, matches)
        return JSONResponse(await while_connected(request, server.limits.answer_s, work))


def _add_changes(api: FastAPI, server: Server) -> None:
    class Guarded(APIRoute):
        """The token is looked at before the body is read."""

        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:
            handler = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                check_token(request.headers.get("authorization"), server.write_token)
                return await handler(request)

            return guarded

    problems = {status: _problem(status) for status in (404, 413, 415, 422)}
    problems |= {
        401: _problem(401, "The write token is missing or wrong."),
        403: _problem(403, "The server changes no map."),
        409: _problem(409, "The image is there already, or another change is going on."),
    }

    async def add_image(
        name: str,
        picture: Picture,
        world_from_cam: Annotated[
            str, Form(description="JSON: four rows of four numbers; OpenCV's camera axes.")
        ],
        image: Annotated[str | None, Form(description="Its name; that of the file.")] = None,
        fx: Focal = None,
        fy: Focal = None,
        cx: Centre = None,
        cy: Centre = None,
    ) -> dict[str, Any]:
        return await server.add_image(
            name, image or picture.filename or "", picture, (fx, fy, cx, cy), world_from_cam
        )

    async def remove_image(name: str, image: str) -> dict[str, Any]:
        return await server.remove_image(name, image)

    for path, method, status, summary, function in [
        ("/maps/{name}/images", "POST", 201, "Add a picture with its pose to a map", add_image),
        ("/maps/{name}/images/{image:path}", "DELETE", 200, "Take a picture out", remove_image),
    ]:
        api.router.add_api_route(
            path,
            function,
            methods=[method],
            status_code=status,
            summary=summary,
            responses=problems,
            route_class_override=Guarded,
        )


def _add_health(api: FastAPI, server: Server) -> None:
    @api.get("/healthz", summary="Whether the process answers")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz", summary="Whether a map is in memory", responses={503: _problem(503)})
    def readyz() -> dict[str, str]:
        if not server.shelf.open_maps():
            raise Refused(503, "no map is open yet; try again", {"Retry-After": "1"})
        return {"status": "ready"}

    @api.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    def metrics() -> Response:
        return Response(server.metrics.text(), media_type=server.metrics.content_type)


def _add_problems(api: FastAPI) -> None:
    """What errors become: a status and one sentence."""

    @api.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        sentence = str(error.detail)
        if not isinstance(error, Refused):
            known = {404: "there is nothing at this address", 405: "this cannot be done here"}
            sentence = known.get(
                error.status_code, f"the request is no proper one: {one_line(error.detail)}"
            )
        return error_response(request.scope, error.status_code, sentence, error.headers)

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return error_response(
            request.scope, 422, f"{field}: {one_line(first['msg']).lower()}; mend or add the field"
        )

    @api.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        sentence = "the server met an unforeseen error; its log has the request's id"
        return error_response(request.scope, 500, sentence)

    @api.exception_handler(UnknownMap)
    @api.exception_handler(MapUnreadable)
    @api.exception_handler(Busy)
    async def known_problem(request: Request, error: Exception) -> Response:
        return error_response(request.scope, *MAP_PROBLEMS[type(error)])

    @api.exception_handler(QueueFull)
    async def full(request: Request, error: QueueFull) -> Response:
        headers = {"Retry-After": str(error.retry_after_s)}
        return error_response(request.scope, 429, str(error), headers)


def _problem(status: int, text: str = "") -> dict[str, Any]:
    content = {"application/json": {"example": EXAMPLE_ERROR}}
    return {"description": text or PROBLEMS[status], "content": content}
