"""The flow ``build-surd``: runs every stage over every partition, in order, and skips what is already done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from prefect import flow
from prefect.flows import Flow
from prefect.states import Failed
from pydantic import BaseModel

from surd.flows.artifacts import RunPage, hide_user_errors, publish_result, redact_run_parameters
from surd.flows.build_record import build_record
from surd.flows.build_request import BuildRequest, request_build
from surd.flows.chains import chains
from surd.flows.listener import SILENT, Listener
from surd.flows.run_stages import run_stages, unit_runner
from surd.pipeline.build.folder import Build
from surd.pipeline.build.lock import exclusive
from surd.pipeline.decisions.log import fold
from surd.pipeline.forget.forget import finish_forgetting
from surd.pipeline.inspection.nothing_kept import check_kept
from surd.pipeline.inspection.summary import summarize
from surd.pipeline.runner.model_check import check_models
from surd.pipeline.runner.plan import Planner, fold_ledgers
from surd.pipeline.runner.run_unit import Outcome
from surd.pipeline.stages import BY_NAME
from surd.schemas import SurdError
from surd.schemas.config import (
    CaptionConfig,
    CivitaiConfig,
    CleanConfig,
    CollectConfig,
    CorrectConfig,
    DedupConfig,
    DemoConfig,
    EmbedConfig,
    FactsConfig,
    FetchConfig,
    LexicaConfig,
    ModelsConfig,
    PackConfig,
    PromptsConfig,
    ReportConfig,
    RewriteConfig,
    SafetyConfig,
    ScoreConfig,
    SelectConfig,
    UrlsConfig,
)


def make_flow(listener: Listener, request: BuildRequest | None = None) -> Flow[..., Any]:
    """The flow with a listener of its own: a flow's parameters are JSON and could not carry one.

    Given a ``request``, the flow builds that: its parameters are then only shown. Prefect keeps parameters in its
    database, so secrets must not be among them.
    """

    # Prefect takes a parameter's description from "Args" alone, not from its annotation. None: as the profile has it.
    @flow(name="build-surd", persist_result=False)
    def build_surd(
        *,
        profile: str | None = None,
        out: str | None = None,
        source: str | None = None,
        limit: int | None = None,
        seed: int | None = None,
        partition_size: int | None = None,
        runner: Literal["threads", "ray"] | None = None,
        workers: int | None = None,
        models: ModelsConfig | None = None,
        demo: DemoConfig | None = None,
        collect: CollectConfig | None = None,
        urls: UrlsConfig | None = None,
        civitai: CivitaiConfig | None = None,
        lexica: LexicaConfig | None = None,
        fetch: FetchConfig | None = None,
        prompts: PromptsConfig | None = None,
        clean: CleanConfig | None = None,
        dedup: DedupConfig | None = None,
        safety: SafetyConfig | None = None,
        score: ScoreConfig | None = None,
        caption: CaptionConfig | None = None,
        rewrite: RewriteConfig | None = None,
        facts: FactsConfig | None = None,
        correct: CorrectConfig | None = None,
        select: SelectConfig | None = None,
        pack: PackConfig | None = None,
        embed: EmbedConfig | None = None,
        report: ReportConfig | None = None,
        refresh: bool = False,
        overwrite: bool = False,
    ) -> Any:
        """Build a SURD dataset, or continue one: every stage from collect to report, partition by partition.

        A section of the config may be given in part; the rest is as the folder's build.json remembers it, or as the
        profile has it. What is already done is skipped. Returns the summary of the build; a user error ends the run
        with one sentence. A password or key in the source belongs into the environment: write ${NAME} in its place.

        Args:
            profile: demo, small, paper, or a path to a YAML file.
            out: Folder or URL of the build; data/PROFILE when not given. Needed with a source of your own.
            source: demo, civitai:?QUERY, lexica:WORDS, gallery:URL, folder:PATH, urls:FILE, img2dataset:FOLDER,
                huggingface:FOLDER, authors:FOLDER or diffusiondb:FOLDER.
            limit: Collect at most this many records.
            seed: Of the demo world.
            partition_size: Source records per unit of work, retry and resume.
            runner: Where partitions run; ray needs surd[ray].
            workers: Partitions at once with runner threads.
            models: Which model fills each role: a hub id, a local path, or ``package:<module>/<path>``.
            demo: The embedded demo world, served by a local gallery when source is ``demo``.
            collect: Paging through a source.
            urls: Columns of a list of images, for sources that read one: urls, img2dataset, huggingface.
            civitai: The source civitai; its API key is in the environment as CIVITAI_API_KEY.
            lexica: The source lexica.
            fetch: Getting and verifying the bytes.
            prompts: Pictures without a prompt.
            clean: Prompt cleaning.
            dedup: Duplicate images and prompts. Of a cluster the row with most pixels stays, then most bytes, then
                smallest key.
            safety: What is not safe for work. The prompt's words and the source's level are judged by clean.
            score: CLIP scores.
            caption: Captions of the image.
            rewrite: The complex prompt as a plain sentence, by the LLM.
            facts: How texts are read as facts.
            correct: Semantic correction.
            select: Thresholds on the score table: free to change.
            pack: Shards.
            embed: Columns: LLM hidden states of the simple prompt, and what the diffusion model's own encoders give.
            report: The report page.
            refresh: Read the source again: what it has new is added, what it no longer has goes.
            overwrite: Replace a build of another source or profile, and forget the parameters given before.
        """
        hide_user_errors()
        fields = {
            "source": source,
            "limit": limit,
            "seed": seed,
            "partition_size": partition_size,
            "runner": runner,
            "workers": workers,
            "models": models,
            "demo": demo,
            "collect": collect,
            "urls": urls,
            "civitai": civitai,
            "lexica": lexica,
            "fetch": fetch,
            "prompts": prompts,
            "clean": clean,
            "dedup": dedup,
            "safety": safety,
            "score": score,
            "caption": caption,
            "rewrite": rewrite,
            "facts": facts,
            "correct": correct,
            "select": select,
            "pack": pack,
            "embed": embed,
            "report": report,
        }
        try:
            given = {name: _plain(value) for name, value in fields.items() if value is not None}
            asked = request or replace(
                request_build(out=out, profile=profile, parameters=given, overwrite=overwrite), refresh=refresh
            )
            if not request:
                redact_run_parameters()
            return _build(asked, listener)
        except SurdError as error:
            return Failed(message=str(error), data=error)

    return build_surd


build_surd = make_flow(SILENT)


def _build(request: BuildRequest, listener: Listener) -> dict[str, Any]:
    build, config = Build(request.out), request.config
    listeners = (RunPage(), listener)
    outcomes: list[Outcome] = []
    with exclusive(build) as check, unit_runner(config) as runner:
        finish_forgetting(build)
        fold(build)
        record = build_record(request)
        fold_ledgers(build)
        check_models(config, build, refresh=request.refresh)
        planner = Planner(build, config, check=check, refresh=request.refresh)
        for chain in chains(config):
            outcomes += run_stages(chain, planner, runner, listeners)
            if chain == (BY_NAME["collect"],):
                # Only now: a source that gives nothing must not replace the record of what was built before.
                build.write_json("build.json", record)
            if chain == (BY_NAME["select"],):
                check_kept(build, config)
    summary = summarize(build, outcomes)
    publish_result(summary)
    return summary


def _plain(value: Any) -> Any:
    """A section as the mapping the user wrote: fields not given must not hide the profile's."""
    return value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
