"""Whose LLM states a training distils or attaches: a column's, or an LLM's that is run at every step."""

from __future__ import annotations

from sur_adapter.data.shard_dataset import ShardDataset
from sur_adapter.llm import LLMReader, LLMSource, check_revision, revision, shared_llm
from sur_adapter.training.config import TrainConfig
from surd.schemas.errors import SurdError
from surd.schemas.manifest import ColumnManifest


def llm_source(config: TrainConfig, data: ShardDataset) -> tuple[LLMSource | None, LLMReader | None]:
    """Whose states are distilled or attached; and, if these are computed at every step, what computes them.

    SurdError if the LLM is missing, or another than the one that made the column.
    """
    if not config.computes_llm:
        column = data.reads.get("llm")
        return (LLMSource.of(column) if column else None), None
    if config.llm is not None:
        model, tokenizer = shared_llm(config.llm)
        pooling = "all-layers" if config.llm_layer is None else "tokens"
        source = LLMSource(
            model=config.llm,
            layer=config.llm_layer,
            pooling=pooling,
            width=int(model.config.get_text_config().hidden_size),
            revision=revision(config.llm),
        )
    else:
        source = LLMSource.of(data.columns[llm_column(config, data.columns, data.layout.build)])
        model, tokenizer = shared_llm(source.model)
        check_revision(source.model, source.model, source.revision)
    return source, LLMReader(model=model, tokenizer=tokenizer, layer=source.layer, pooling=source.pooling)


def llm_column(config: TrainConfig, columns: dict[str, ColumnManifest], build: str) -> str:
    """The column named in the config, or the only one."""
    if config.attaches:
        return _token_column(config, columns, build)
    present = [name for name, column in columns.items() if column.kind == "llm"]
    matches = [name for name in present if config.llm_column in (None, name)]
    if len(matches) != 1:
        problem = f"{build} has several" if matches else f"{build} does not have it"
        raise SurdError(
            f"--llm-column is {config.llm_column or 'not given'}, and {problem} (present:"
            f" {', '.join(present) or 'none'}); name one, or pass --w-llm 0"
        )
    if config.llm_targets == "tokens" and not columns[matches[0]].of_tokens:
        raise SurdError(
            f"--llm-targets is 'tokens', which needs a column of tokens, but {matches[0]} holds one vector a prompt; "
            "embed with pooling tokens and name that column"
        )
    return matches[0]


def _token_column(config: TrainConfig, columns: dict[str, ColumnManifest], build: str) -> str:
    """The column of tokens of the simple prompts named in the config, or the only one: what an adapter can read."""
    present = [name for name, column in columns.items() if column.kind == "llm"]
    fitting = [name for name in present if columns[name].of_tokens and columns[name].text != "complex"]
    matches = [name for name in fitting if config.llm_column in (None, name)]
    if len(matches) == 1:
        return matches[0]
    if config.llm_column in present:
        problem = (
            f"it does not hold a vector for each token of the simple prompts (such: {', '.join(fitting) or 'none'})"
        )
    else:
        problem = f"{build} has {'several' if matches else 'no'} such column (present: {', '.join(present) or 'none'})"
    raise SurdError(
        f"--llm-column is {config.llm_column or 'not given'}, and --llm-role {config.llm_role} needs one of tokens:"
        f" {problem}; name one, add one with surd columns add --pooling all-layers, or name an LLM with --llm"
    )
