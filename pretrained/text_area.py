"""Text in a picture: the share of it that a text detector (DBNet, Liao et al., arXiv 1911.08947) marks.

The detector is that of PP-OCRv4 as the package ``rapidocr-onnxruntime`` ships it (4.7 MB, Apache-2.0). Only that file
is read, so the package needs none of what it depends on (``pip install --no-deps rapidocr-onnxruntime``). It finds
captions, logos, signs and watermarks in any script; a single large shape on a flat ground it may take for a letter.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import find_objects, label, maximum_filter

from surd.pretrained.packaged_model import read_packaged

PACKAGE = "rapidocr_onnxruntime"
_FILE = "models/ch_PP-OCRv4_det_infer.onnx"
#: With another model the same picture would have another figure.
_SHA256 = "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9"
_REQUIREMENT = "rapidocr-onnxruntime==1.4.4"
_SIDE = 736  # pixels of the longer side as the network sees it, as PP-OCR has it
_STRIDE = 32
_LEAST_PROBABILITY = 0.3  # of a pixel to be text, and of a region on average: as the detector's authors set them
_LEAST_MEAN = 0.6
_LEAST_SIDE = 3  # pixels of a region
_UNCLIP = 1.6  # regions are marked shrunk; by this ratio they grow back


def text_area(picture: Image.Image) -> float:
    """Share of a picture's pixels that are text with what is between its letters, 0 to 1.

    Raises SurdError when the model is not installed.
    """
    probabilities = _probabilities(picture)
    regions, _ = label(probabilities > _LEAST_PROBABILITY)
    text = np.zeros(probabilities.shape, bool)
    for number, place in enumerate(find_objects(regions), 1):
        region = regions[place] == number
        height, width = region.shape
        if min(height, width) < _LEAST_SIDE or probabilities[place][region].mean() < _LEAST_MEAN:
            continue
        grow = round(_UNCLIP * region.sum() / (2 * (height + width)))
        around = tuple(slice(max(0, side.start - grow), side.stop + grow) for side in place)
        text[around] |= maximum_filter(regions[around] == number, 2 * grow + 1)
    return float(text.mean())


def _probabilities(picture: Image.Image) -> npt.NDArray[np.float32]:
    """[H, W]: how likely each pixel is within text."""
    scale = _SIDE / max(picture.size)
    width, height = (max(_STRIDE, round(side * scale / _STRIDE) * _STRIDE) for side in picture.size)
    pixels = np.asarray(picture.convert("RGB").resize((width, height), Image.Resampling.BILINEAR), np.float32)
    channels = np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1)) / 127.5 - 1  # blue first
    detector = load_text_detector()
    found: npt.NDArray[np.float32] = detector.run(None, {detector.get_inputs()[0].name: channels[None]})[0]
    return found[0, 0]


@cache
def load_text_detector() -> Any:
    """The detector of the installed package, on one thread. Raises SurdError when it is missing or another."""
    import onnxruntime

    data = read_packaged("score.quality text-area", PACKAGE, _REQUIREMENT, _FILE, _SHA256)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # pictures are measured on several threads
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
