"""URLs as people write them, checks of untrusted ones, and their text without secrets."""

from __future__ import annotations

import hashlib
import os
import re
from urllib.parse import quote, unquote_plus, urlsplit

from surd.schemas import SurdError

# A name that says so itself, alone or after others: ``access_token``, ``X-Amz-Signature``, ``apiKey``.
_SECRETS = re.compile(
    r"(?:[^=]*[_-])?(?:\w{0,12}token|\w{0,12}api[_-]?key|\w{0,12}access[_-]?key(?:[_-]?id)?|key|secret|password|passwd|"
    r"pwd|auth|authorization|credentials?|jwt|hmac|signature|sig|sign|session(?:[_-]?id)?|security)",
    re.IGNORECASE,
)
_SIGNED = re.compile(
    r"x-(?:amz|goog|oss|cos|ms|obs|tos)-.*|q-(?:ak|sign-.*|key-time|header-list|url-param-list)|key-pair-id|"
    r"awsaccesskeyid|ossaccesskeyid|googleaccessid|hdn(?:ts|ea|tl)|policy",
    re.IGNORECASE,
)
#: Parameters that belong to a signature where all of the first are there: of Azure, CloudFront, Discord, Facebook.
_COMPANIONS = (
    (
        {"sig"},
        {
            "sv", "se", "st", "sp", "sr", "spr", "sip", "ss", "srt", "si", "skoid", "sktid", "skt", "ske", "sks", "skv",
            "saoid", "suoid", "scid", "sdd", "ses",
        },
    ),
    ({"signature"}, {"expires", "expiry"}),
    ({"sign"}, {"t", "expires"}),
    ({"md5", "expires"}, {"md5", "expires"}),
    ({"ex", "is", "hm"}, {"ex", "is", "hm"}),
    ({"oh", "oe"}, {"oh", "oe"}),
)  # fmt: skip
#: Secrets that may also be what tells one picture from another (``?key=a1.png``): the id of a record keeps their hash.
_IDENTIFYING = re.compile(r"token|key|auth", re.IGNORECASE)
_USER = re.compile(r"(?:(?<=://)|(?<=\A//))[^/?#\\\s]*@")
_IN_TEXT = re.compile(r"[a-z0-9+.-]{0,12}://[^\s'\"<>]*", re.IGNORECASE)
_HOST = re.compile(r"[^\s%<>\"^|\\`{}]+(?:%25[^\s%<>]+)?")
_PAIR = re.compile(r"([?&])([\w.%-]{1,60})=[^&\s'\"<>]+")
_AROUND = "".join(map(chr, range(33))) + "\x7f\x85\xa0\u200b\u200c\u200d\u2060\ufeff"
_SCHEME = re.compile(r"(https?):/*", re.IGNORECASE)
_BARE_HOST = re.compile(r"(?:www\.[\w-]+\.[\w.-]+|(?:[\w-]+\.)+[\w-]+:\d{1,5})/", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def is_http(url: str) -> bool:
    """Whether this is an http(s) URL with a host."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme in ("http", "https") and bool(_HOST.fullmatch(host)) and parts.port != 0
    except ValueError:  # a broken port or IPv6 address
        return False


def fill_from_environment(url: str) -> str:
    """The URL with every ``${NAME}`` replaced by that environment variable, so that no config has to hold a secret.

    Raises SurdError if a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise SurdError(f"source names the environment variable {name}, which is not set; set it")
        return quote(os.environ[name], safe="")

    return _VARIABLE.sub(value, url)


def tidy_url(text: str) -> str:
    """A URL, or a reference, as browsers read it: without what surrounds it, tabs and line ends.

    Backslashes become slashes, spaces become %20. All else is left to the client that encodes it. https://url.spec.whatwg.org/#url-parsing
    """
    text = re.sub(r"[\t\r\n]", "", text.strip(_AROUND))
    mark = re.search(r"[?#]", text)
    path, rest = (text[: mark.start()], text[mark.start() :]) if mark else (text, "")
    return (path.replace("\\", "/") + rest.replace("&amp;", "&")).replace(" ", "%20")


def web_url(text: str) -> str:
    """What a list states as the URL of an image, as browsers and curl read it; check it with ``is_http``.

    Also in quotes or angle brackets, with one or three slashes, or none, after the scheme; ``//host`` and
    ``www.host/...`` are taken for http, as curl does: a server that wants https redirects.
    """
    text = text.strip(_AROUND)
    if len(text) > 2 and (text[0], text[-1]) in (('"', '"'), ("'", "'"), ("<", ">")):
        text = text[1:-1]
    url = tidy_url(text)
    if scheme := _SCHEME.match(url):
        return f"{scheme[1].lower()}://{url[scheme.end() :]}"
    if url.startswith("//"):
        return f"http:{url}"
    return f"http://{url}" if _BARE_HOST.match(url) else url


def redact_secrets(url: str) -> str:
    """The URL or source string without user, password and query parameters that hold a token, key or signature.

    ``${NAME}``, which stands for an environment variable, is no secret and stays. A text without any of these is
    returned unchanged.
    """
    return _parted(url)[0]


def redact_text(text: str) -> str:
    """A text with ``redact_secrets`` of every URL in it, and ``[hidden]`` for secrets of what only looks like one."""
    if "://" in text:
        text = _IN_TEXT.sub(lambda match: redact_secrets(match[0]), _USER.sub("", text))
    return _PAIR.sub(_hidden, text) if "=" in text else text


def _hidden(pair: re.Match[str]) -> str:
    name = unquote_plus(pair[2])
    return f"{pair[1]}{pair[2]}=[hidden]" if _SECRETS.fullmatch(name) or _SIGNED.fullmatch(name) else pair[0]


def url_identity(url: str) -> str:
    """What identifies the image of a URL: the URL without secrets.

    Where a secret may itself tell one image from another (``?token=``), a hash of it stands at the end; signatures,
    passwords and dates of expiry do not count, so that an image signed anew is the same one.
    """
    shown, hidden = _parted(url)
    if not hidden:
        return shown
    digest = hashlib.sha256("&".join(hidden).encode("utf-8", "replace")).hexdigest()[:12]
    return f"{shown}{'' if '#' in shown else '#'}-{digest}"


def _parted(url: str) -> tuple[str, list[str]]:
    """The URL without secrets, and those of them that may identify the image."""
    head, mark, query = _USER.sub(_without_password, url).partition("?")
    if not mark:
        head, mark, fragment = head.partition("#")
        kept, hidden = _pairs(fragment)
        return head + (mark + kept if kept == fragment or kept else ""), hidden
    query, hash_, fragment = query.partition("#")
    kept, hidden = _pairs(query)
    kept_fragment, also_hidden = _pairs(fragment)
    if kept_fragment != fragment and not kept_fragment:
        hash_ = ""
    return head + (mark + kept if kept or kept == query else "") + hash_ + kept_fragment, hidden + also_hidden


def _without_password(user: re.Match[str]) -> str:
    """Nothing of a user and a password, unless the password is the name of an environment variable."""
    return user[0] if _VARIABLE.fullmatch(user[0].rstrip("@").partition(":")[2]) else ""


def _pairs(query: str) -> tuple[str, list[str]]:
    if "=" not in query:
        return query, []
    pairs = re.split("[&;]", query) if "&" not in query else query.split("&")
    names = [unquote_plus(pair.partition("=")[0]) for pair in pairs]
    present = {name.lower() for name in names}
    companions = {name for needed, others in _COMPANIONS if needed <= present for name in others}
    kept, hidden = [], []
    for pair, name in zip(pairs, names, strict=True):
        if name.lower() in companions or _SIGNED.fullmatch(name):
            continue
        if _SECRETS.fullmatch(name) and not _VARIABLE.fullmatch(pair.partition("=")[2]):
            if _IDENTIFYING.fullmatch(name):
                hidden.append(pair)
            continue
        kept.append(_without_inner(pair))
    if kept == pairs:
        return query, []
    return "&".join(kept), hidden


def _without_inner(pair: str) -> str:
    """A parameter; of one that is itself a URL (``?url=https%3A%2F%2F...``) also that without secrets."""
    name, mark, value = pair.partition("=")
    inner = unquote_plus(value) if "%3a" in value[:20].lower() else value
    if "://" not in inner[:20]:
        return pair
    shown = redact_secrets(inner)
    return pair if shown == inner else f"{name}{mark}{quote(shown, safe='', errors='replace')}"
