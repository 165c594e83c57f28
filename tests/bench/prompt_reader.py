"""Prompts read by sd-prompt-reader: paths in, JSON out, a line each. Runs in the environment of that package."""

import json
import logging
import sys

from sd_prompt_reader.image_data_reader import ImageDataReader  # type: ignore[import-not-found]


def read(path: str) -> dict[str, object]:
    try:
        reader = ImageDataReader(path)
        sdxl = [*reader.positive_sdxl.values()] if reader.positive_sdxl else []
    except Exception as error:  # any error is counted
        return {"error": repr(error)[:200]}
    return {"prompts": [text for text in (reader.positive, *sdxl) if isinstance(text, str) and text]}


if __name__ == "__main__":
    logging.disable()
    answers, sys.stdout = sys.stdout, sys.stderr  # its parsers print their errors
    for line in sys.stdin:
        print(json.dumps(read(line.rstrip("\n"))), file=answers, flush=True)
