"""Why a source record did not become a sample: one closed list for the whole project."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a row stands after a stage."""

    KEPT = "kept"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why a row was rejected. Values are stable: reports and downstream tools group by them."""

    NO_IMAGE = "no_image"
    UNREADABLE_ROW = "unreadable_row"
    FETCH_FAILED = "fetch_failed"
    HTTP_ERROR = "http_error"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    FORBIDDEN_ADDRESS = "forbidden_address"
    ROBOTS_DISALLOWED = "robots_disallowed"
    OPTED_OUT = "opted_out"
    UNREADABLE_FILE = "unreadable_file"
    TOO_LARGE = "too_large"
    EXTREME_ASPECT = "extreme_aspect"
    TOO_COMPLEX = "too_complex"
    NOT_AN_IMAGE = "not_an_image"
    BROKEN_IMAGE = "broken_image"
    POLYGLOT = "polyglot"
    NO_PROMPT = "no_prompt"
    NO_SIMPLE_PROMPT = "no_simple_prompt"
    EMPTY_PROMPT = "empty_prompt"
    NSFW = "nsfw"
    PROMPT_INJECTION = "prompt_injection"
    UNRESOLVED_TEMPLATE = "unresolved_template"
    GIBBERISH = "gibberish"
    FOREIGN_LANGUAGE = "foreign_language"
    NO_SUBJECT = "no_subject"
    PLACEHOLDER = "placeholder"
    DUPLICATE_BYTES = "duplicate_bytes"
    DUPLICATE_IMAGE = "duplicate_image"
    DUPLICATE_PROMPT = "duplicate_prompt"
    NO_CANDIDATE = "no_candidate"
    MISMATCH = "mismatch"
    BELOW_THRESHOLD = "below_threshold"
    DUPLICATE_SEMANTIC = "duplicate_semantic"
    PICTURE_LIMIT = "picture_limit"
    FILTERED = "filtered"
    REJECTED_BY_HAND = "rejected_by_hand"
    FORGOTTEN = "forgotten"

    @property
    def meaning(self) -> str:
        """One plain phrase, as the report prints it."""
        return _MEANING[self]


_MEANING: dict[Reason, str] = {
    Reason.NO_IMAGE: "the source names no image for this record",
    Reason.UNREADABLE_ROW: "the row of the list is too long, not UTF-8 or of another shape",
    Reason.FETCH_FAILED: "the image could not be downloaded (network error or time-out)",
    Reason.HTTP_ERROR: "the server answered the image request with an error",
    Reason.TOO_MANY_REDIRECTS: "the URL redirects in a circle or too often",
    Reason.FORBIDDEN_ADDRESS: "the URL is not http(s), or leads to an address that is not public",
    Reason.ROBOTS_DISALLOWED: "the site's robots.txt disallows it",
    Reason.OPTED_OUT: "the site keeps it out of training data (noai, noimageai or TDM-Reservation)",
    Reason.UNREADABLE_FILE: "the file could not be read from disk",
    Reason.TOO_LARGE: "more bytes or pixels than the config allows",
    Reason.EXTREME_ASPECT: "one side is more times as long as the other than the config allows",
    Reason.TOO_COMPLEX: "the file has more segments or scans than any picture needs",
    Reason.NOT_AN_IMAGE: "the bytes are not a PNG, JPEG or WebP image",
    Reason.BROKEN_IMAGE: "the image is damaged and does not decode",
    Reason.POLYGLOT: "the image has another file (archive, program or page) behind its end",
    Reason.NO_PROMPT: "neither the source nor the file says which prompt made the image",
    Reason.NO_SIMPLE_PROMPT: "the source gives no simple prompt, and an import makes none",
    Reason.EMPTY_PROMPT: "nothing readable is left of the prompt after cleaning",
    Reason.NSFW: "not work-safe, by the source's own level, by the prompt or by the image",
    Reason.PROMPT_INJECTION: "the prompt gives orders to a language model",
    Reason.UNRESOLVED_TEMPLATE: "wildcards or choices are left in the prompt: the one that made the image is unknown",
    Reason.GIBBERISH: "the prompt is no words of any language",
    Reason.FOREIGN_LANGUAGE: "the prompt is in a language that the config does not list",
    Reason.NO_SUBJECT: "the prompt praises and styles, but does not say what is shown",
    Reason.PLACEHOLDER: "the same bytes come under five unlike prompts or more: a picture in place of many others",
    Reason.DUPLICATE_BYTES: "byte for byte the same image as another record",
    Reason.DUPLICATE_IMAGE: "visually the same image as another record (resized, recompressed or cropped)",
    Reason.DUPLICATE_PROMPT: "almost the same prompt as a record that stays",
    Reason.NO_CANDIDATE: "neither the captioner nor the LLM gave a usable sentence",
    Reason.MISMATCH: "no candidate sentence fits the image as CLIP sees it",
    Reason.BELOW_THRESHOLD: "the score is under the selection threshold",
    Reason.DUPLICATE_SEMANTIC: "shows the same as a better sample, as CLIP sees both images",
    Reason.PICTURE_LIMIT: "the picture does not meet a limit of select.picture",
    Reason.FILTERED: "a filter of one's own (select.filters) rejected it",
    Reason.REJECTED_BY_HAND: "a person rejected it",
    Reason.FORGOTTEN: "removed by surd forget",
}
