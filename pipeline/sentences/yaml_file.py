"""YAML files validated by a pydantic model; errors name line and column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from surd.schemas import SurdError
from surd.schemas.errors import one_line

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(file: Path, model: type[Model], setting: str) -> Model:
    """``file`` as a ``model``. Raises SurdError with the ``setting`` that names it, line and column of the error."""
    name = f"{setting} {str(file)!r}"
    try:
        text = file.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        return model.model_validate(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as error:
        raise SurdError(f"{name} cannot be read ({error}); give a YAML file") from None
    except yaml.MarkedYAMLError as error:
        raise SurdError(f"{name}{_place(error.problem_mark)}: {error.problem}; it must be YAML") from None
    except yaml.YAMLError as error:  # a control character: the reader itself stops
        raise SurdError(f"{name}: {' '.join(str(error).split())}; it must be YAML") from None
    except ValidationError as error:
        first = error.errors()[0]
        *_, mark = _marks(root, first["loc"])
        field = ".".join(map(str, first["loc"])) or "the file"
        why = first["msg"].removeprefix("Value error, ")
        raise SurdError(f"{name}{_place(mark)}: {field}: {why[:1].lower()}{why[1:]}") from None
    except (ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        # An odd date or number, or brackets in brackets in brackets: PyYAML raises whatever comes of it.
        raise SurdError(f"{name}: a value in it is not valid ({one_line(error, 100)}); it must be YAML") from None


def _marks(node: Any, location: tuple[int | str, ...]) -> Iterator[Any]:
    """Positions in the file of the nodes on the path to a field, as far as they exist."""
    if node is None:
        yield None
        return
    yield node.start_mark
    if location and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == location[0]:
                yield key.start_mark
                yield from _marks(value, location[1:])
    elif location and isinstance(node, yaml.SequenceNode) and isinstance(location[0], int):
        yield from _marks(node.value[location[0]], location[1:])


def _place(mark: Any) -> str:
    return f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
