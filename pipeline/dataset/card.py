"""The dataset card ``README.md``, from which Hugging Face ``datasets`` takes the types of the columns."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import yaml
from pydantic import BaseModel

from surd.schemas import Sample, arrow_schema
from surd.schemas.records import Caption
from surd.schemas.shard_format.captions import CAPTIONS

_DTYPES = {"double": "float64"}  # where datasets calls a type otherwise than Arrow


def dataset_card(count: int, extensions: set[str], *, captions: int = 0) -> str:
    """The card of a build. Its YAML head names one image column for each kind of file that occurs.

    ``captions``: how many samples have several; with none the card does not mention them.

    datasets would otherwise guess the columns from the first five samples, and lose images of another kind.
    """
    several = ""
    if captions:
        several = (
            f"{captions:,} of them have several captions beside that sentence, the best first, in `{CAPTIONS}`: name,\n"
            "text, CLIP score, model, and the facts that were taken out.\n\n"
        )
    return (
        f"{yaml_head(card_head(extensions, captions=captions > 0))}\n# A SURD dataset\n\n"
        f"{count:,} images, each with the keyword prompt it was generated from (`complex.txt`) and one plain sentence"
        " that says what it shows (`simple.txt`), made by surd. `shards/` are webdataset tars,\n"
        "`shards/index.parquet` has all scores, `columns/` has embeddings by the same keys. Load the images and texts\n"
        "with `datasets.load_dataset` and the path of this folder.\n\n"
        f"{several}"
        "Licence and author of each image, where its source named them, are in `json`: check them before you publish.\n"
    )


def card_head(extensions: set[str], *, captions: bool) -> dict[str, Any]:
    """What ``datasets.load_dataset`` reads of a card: where the samples are, and the type of each of their members."""
    features: list[dict[str, Any]] = [
        {"name": "__key__", "dtype": "string"},
        *({"name": extension, "dtype": "image"} for extension in sorted(extensions)),
        {"name": "simple.txt", "dtype": "string"},
        {"name": "complex.txt", "dtype": "string"},
        {"name": "json", "struct": _features(Sample)},
    ]
    if captions:
        features.append({"name": CAPTIONS, "list": _features(Caption)})
    return {
        "task_categories": ["text-to-image"],
        "configs": [{"config_name": "default", "data_files": "shards/*.tar"}],
        "dataset_info": {"features": features},
    }


def yaml_head(fields: dict[str, Any]) -> str:
    """The head of a card, between its two lines of dashes."""
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n"


def described(card: str) -> tuple[set[str], bool]:
    """Of a card that ``dataset_card`` wrote: the kinds of image files, and whether samples have several captions.

    Raises ValueError when it is another text.
    """
    try:
        features = yaml.safe_load(card.split("---\n")[1])["dataset_info"]["features"]
        names = {feature["name"] for feature in features}
        return {feature["name"] for feature in features if feature.get("dtype") == "image"}, CAPTIONS in names
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not a card of surd ({error})") from None


def _features(model: type[BaseModel]) -> list[dict[str, Any]]:
    """The fields of a model as the card writes them."""
    return [
        {"name": field.name, "list": _dtype(field.type.value_type)}
        if pa.types.is_list(field.type)
        else {"name": field.name, "dtype": _dtype(field.type)}
        for field in arrow_schema(model)
    ]


def _dtype(kind: pa.DataType) -> str:
    return _DTYPES.get(str(kind), str(kind))
