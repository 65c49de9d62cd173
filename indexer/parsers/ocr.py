"""Reading pictures of text: rapidocr on onnxruntime, with the models in its wheel and nothing downloaded."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from indexer.parsers.errors import OcrUnavailable
from indexer.parsers.layout import Segment
from indexer.parsers.ocr_tiles import needs_shrinking, read_tiles
from indexer.types import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PIL.Image import Image
    from rapidocr import RapidOCR

_MODELS = {
    "Det": "PP-OCRv6_det_small.onnx",
    "Rec": "PP-OCRv6_rec_small.onnx",
    "Cls": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
}
_LONGEST_SIDE = 2000  # pixels that text is looked for in; larger pictures are shrunk to it
_LEGIBLE = 16.0  # pixels: lines that are lower after shrinking are read again from tiles
_COMFORTABLE = 28.0  # pixels: as high as lines need to be in tiles
_WORTH_A_SECOND_LOOK = 1.3  # times that a picture was shrunk
_LEAST_SURE = 0.5  # of a line in a tile, below which it is taken for none
_SURE = 0.85  # mean confidence below which a page is tried upside down as well
_SMALL_SIDE = 480  # pixels to which smaller pictures are enlarged,
_MOST_ENLARGED = 4.0  # but not more than this many times
_INK = 40  # of 255, by which ink differs from paper
_MARGIN = 24  # pixels of paper that are kept around the ink
_MIN_SIDE = 8  # pixels; nothing legible is smaller


class OcrResult(NamedTuple):
    """What was read: segments in an upright picture, and the mean confidence in them (0 to 1)."""

    segments: list[Segment]
    confidence: float
    quarter_turns: int = 0  # counter-clockwise, by which the picture was turned upright
    size: tuple[float, float] = (0.0, 0.0)  # of the part of the picture that was read
    origin: tuple[float, float] = (0.0, 0.0)  # of that part
    scale: float = 1.0  # by which it was shrunk to be read

    @property
    def worth(self) -> float:
        """How much was read, and how surely."""
        return self.confidence * sum(len(segment.text) for segment in self.segments)

    @property
    def is_small_print(self) -> bool:
        """Whether the lines are so low, once shrunk, that they are worth a look from closer by."""
        if self.scale < _WORTH_A_SECOND_LOOK or not self.segments:
            return False
        return _line_height(self.segments) / self.scale < _LEGIBLE

    def place(self, box: Box) -> Box:
        """A box of the upright picture, in the picture as it came."""
        page, x0, y0, x1, y1 = box
        width, height = self.size
        if self.quarter_turns == 1:
            x0, y0, x1, y1 = width - y1, x0, width - y0, x1
        elif self.quarter_turns == 2:
            x0, y0, x1, y1 = width - x1, height - y1, width - x0, height - y0
        elif self.quarter_turns == 3:
            x0, y0, x1, y1 = y0, height - x1, y1, height - x0
        left, top = self.origin
        return Box(page, x0 + left, y0 + top, x1 + left, y1 + top)


def read_picture(image: Image) -> OcrResult:
    """The text in a picture, which may lie on its side or head. Raises OcrUnavailable without the models."""
    left, top, right, bottom = _inked(image)
    width, height = right - left, bottom - top
    if min(width, height) < _MIN_SIDE:
        return OcrResult([], 0.0)
    part = image.crop((left, top, right, bottom)).convert("RGB")
    scale = max(width, height) / _LONGEST_SIDE
    if scale < 1.0:
        scale = min(1.0, max(1 / _MOST_ENLARGED, max(width, height) / _SMALL_SIDE))
    shrunk = (
        part.resize((max(1, round(width / scale)), max(1, round(height / scale)))) if scale != 1.0 else part
    )
    best = _recognise(shrunk, scale, 0)
    if len(best.segments) >= 3 and _lies_on_its_side(best.segments):
        turned = max((_recognise(shrunk, scale, turn) for turn in (1, 3)), key=lambda result: result.worth)
        best = turned if turned.worth > 0.8 * best.worth else best  # else it is written downwards
    elif len(best.segments) >= 3 and best.confidence < _SURE:
        turned = _recognise(shrunk, scale, 2)
        best = turned if turned.worth > 1.1 * best.worth else best
    size, origin = (float(width), float(height)), (float(left), float(top))
    return best._replace(size=size, origin=origin, scale=scale)


def read_closely(image: Image, result: OcrResult) -> OcrResult:
    """The better of what was read in a picture and of what is read in it from closer by, tile by tile."""
    (left, top), (width, height) = result.origin, result.size
    part = image.crop((int(left), int(top), int(left + width), int(top + height))).convert("RGB")
    closer = _recognise_tiles(part, _line_height(result.segments), result.quarter_turns)
    if closer.worth <= result.worth:
        return result
    return closer._replace(size=result.size, origin=result.origin)


def _inked(image: Image) -> tuple[int, int, int, int]:
    """The part of a picture that is not margin: a line on a large blank page is read at its full size."""
    import numpy

    pixels = numpy.asarray(image.convert("L"), dtype=numpy.int16)
    ink = numpy.abs(pixels - numpy.median(pixels[::8, ::8])) > _INK
    rows, columns = numpy.flatnonzero(ink.any(axis=1)), numpy.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    left, right = max(0, int(columns[0]) - _MARGIN), min(image.size[0], int(columns[-1]) + 1 + _MARGIN)
    top, bottom = max(0, int(rows[0]) - _MARGIN), min(image.size[1], int(rows[-1]) + 1 + _MARGIN)
    return left, top, right, bottom


def _lies_on_its_side(segments: list[Segment]) -> bool:
    long = [segment for segment in segments if len(segment.text) > 3]
    return 2 * sum(segment.y1 - segment.y0 > 1.5 * (segment.x1 - segment.x0) for segment in long) > len(long)


def _recognise(image: Image, scale: float, quarter_turns: int) -> OcrResult:
    import numpy

    pixels = numpy.rot90(numpy.asarray(image)[:, :, ::-1], quarter_turns)  # the models were trained on BGR
    engine = _load_engine()
    output = engine(numpy.ascontiguousarray(pixels), use_det=True, use_cls=False, use_rec=True)
    if output.boxes is None or not output.txts:
        return OcrResult([], 0.0, quarter_turns)
    segments = []
    for corners, text in zip(output.boxes, output.txts, strict=True):
        x0, y0 = (float(value) * scale for value in corners.min(axis=0))
        x1, y1 = (float(value) * scale for value in corners.max(axis=0))
        if text.strip():
            segments.append(Segment(text.strip(), x0, y0, x1, y1, size=max(1.0, min(y1 - y0, x1 - x0))))
    return OcrResult(_even_sizes(segments), float(sum(output.scores)) / len(output.scores), quarter_turns)


def _recognise_tiles(image: Image, line_height: float, quarter_turns: int) -> OcrResult:
    """The same at a scale at which lines of that height, in the picture's pixels, are legible."""
    import numpy

    scale = max(1.0, line_height / _COMFORTABLE, needs_shrinking(*image.size))
    size = (max(1, round(side / scale)) for side in image.size)
    image = image.resize((*size,)) if scale > 1.0 else image
    pixels = numpy.ascontiguousarray(numpy.rot90(numpy.asarray(image)[:, :, ::-1], quarter_turns))
    segments, scores = [], []
    for (x0, y0, x1, y1, _), text, score in read_tiles(pixels, _detect_lines, _read_lines):
        if text.strip() and score >= _LEAST_SURE:
            x0, y0, x1, y1 = x0 * scale, y0 * scale, x1 * scale, y1 * scale
            segments.append(Segment(text.strip(), x0, y0, x1, y1, size=max(1.0, min(y1 - y0, x1 - x0))))
            scores.append(score)
    if not segments:
        return OcrResult([], 0.0, quarter_turns)
    return OcrResult(_even_sizes(segments), float(sum(scores)) / len(scores), quarter_turns)


def _detect_lines(pixels: np.ndarray) -> list[tuple[float, float, float, float]]:
    import numpy

    tile = numpy.ascontiguousarray(pixels)
    boxes = _load_engine()(tile, use_det=True, use_cls=False, use_rec=False).boxes
    return [] if boxes is None else [(*box.min(axis=0).tolist(), *box.max(axis=0).tolist()) for box in boxes]


def _read_lines(lines: Sequence[np.ndarray]) -> list[tuple[str, float]]:
    output = _load_engine().recognize_txt(list(lines))
    return [(text, float(score)) for text, score in zip(output.txts, output.scores, strict=True)]


def _line_height(segments: list[Segment]) -> float:
    return median(segment.size for segment in segments)


def _even_sizes(segments: list[Segment]) -> list[Segment]:
    """The height of a box varies with its letters: what is close to the usual size has it."""
    usual = median(segment.size for segment in segments) if segments else 0.0
    return [s._replace(size=usual) if 0.7 * usual < s.size < 1.4 * usual else s for s in segments]


def model_paths() -> dict[str, Path]:
    """Where rapidocr's wheel keeps each model. Raises OcrUnavailable when one is missing."""
    import importlib.util

    package = importlib.util.find_spec("rapidocr")
    root = Path(package.origin).parent / "models" if package is not None and package.origin else None
    paths = {role: root / name for role, name in _MODELS.items()} if root is not None else {}
    if not paths or not all(path.is_file() for path in paths.values()):
        raise OcrUnavailable(
            "The OCR models are not installed.", hint="Run `pip install 'rapidocr>=3.10' onnxruntime`."
        )
    return paths


@functools.cache
def _load_engine() -> RapidOCR:
    """The engine: hundreds of megabytes and the better part of a second, so one a process.

    With every model given by path, rapidocr has nothing to download.
    """
    paths = model_paths()
    # rapidocr installs a handler of its own and logs at import.
    logging.getLogger("RapidOCR").disabled = True
    import cv2
    from rapidocr import RapidOCR

    cv2.setNumThreads(1)
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.max_side_len": _LONGEST_SIDE,
            # This turns single lines; pages lie upside down as a whole, and `read_picture` finds that out.
            "Global.use_cls": False,
            **{f"{role}.model_path": str(path) for role, path in paths.items()},
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            # The arena would take a seventh less time and keep 1.6 GB instead of 0.5 GB after a few pages.
            "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
        }
    )
