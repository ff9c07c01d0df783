"""What to look at, of an evaluation or of queries against a map: a report, a recording, or both."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence

from jaxreloc.evaluation.report import page, rerun_recording
from jaxreloc.evaluation.report.content import Cameras, SceneContent
from jaxreloc.evaluation.report.matchers import network_matcher
from jaxreloc.evaluation.report.recorder import SceneRecorder
from jaxreloc.localization.jobs.querying import LocalizedImage
from jaxreloc.localization.map.scene_map import SceneMap
from jaxreloc.usage import UsageError

METHOD = "network"


@dataclasses.dataclass(frozen=True)
class Views:
    """The files to write.

    Attributes:
      report: an HTML file; None writes none.
      recording: a .rrd file of Rerun, whose package must be there; None writes none.
    """

    report: pathlib.Path | None = None
    recording: pathlib.Path | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is anything to write."""
        return self.report is not None or self.recording is not None

    def check(self) -> None:
        """Raises UsageError, before any work is done, if something could not be written."""
        for path in filter(None, (self.report, self.recording)):
            if path.is_dir():
                raise UsageError(f"{path}: is a folder; name a file")
        if self.report is not None:
            page.plotly_js()
        if self.recording is not None:
            rerun_recording.require_package()

    def write(
        self, title: str, scenes: Sequence[SceneContent], settings: Mapping[str, str]
    ) -> list[str]:
        """Writes the files and returns a line about each."""
        lines = []
        if self.report is not None:
            page.write_report(self.report, title, scenes, settings=settings)
            size = self.report.stat().st_size / 1e6
            lines.append(f"{self.report}: {size:.1f} MB; open it in a browser")
        if self.recording is not None:
            rerun_recording.write_recording(self.recording, scenes)
            lines.append(f"{self.recording}: open it with `rerun {self.recording}`")
        return lines


class MapViews(contextlib.AbstractContextManager):
    """Collects queries against a map, then writes the views of them, saying so on stderr.

    They are written on leaving the block, also if some pictures could not be read.

    Args:
      name: of the map, for titles.
      settings: what was run and how.
    """

    def __init__(
        self, scene_map: SceneMap, views: Views, name: str, settings: Mapping[str, str]
    ):
        views.check()
        self._views = views
        self._name = name
        self._settings = settings
        self._recorder = _map_recorder(scene_map, name) if views.wanted else None
        self._count = 0

    def keep(self, query: LocalizedImage) -> None:
        """Takes one query and its answer."""
        if self._recorder is not None:
            self._recorder.add(query.name, query.image, query.intrinsics, {METHOD: query.found})
            self._count += 1

    def __exit__(self, kind, error, traceback) -> None:
        if self._count and (error is None or isinstance(error, UsageError)):
            content = self._recorder.content()
            for line in self._views.write(self._name, [content], self._settings):
                print(line, file=sys.stderr)


def _map_recorder(scene_map: SceneMap, name: str) -> SceneRecorder:
    return SceneRecorder(
        name,
        Cameras(
            scene_map.names,
            scene_map.world_from_db,
            scene_map.intrinsics,
            scene_map.image_sizes,
        ),
        scene_map.pictures,
        methods={METHOD: "network"},
        matcher=network_matcher(scene_map),
    )
