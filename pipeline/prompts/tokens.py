"""Tokens of the prompt syntax, as one regular expression; anything between two of them is text."""

from __future__ import annotations

import re

from surd.pipeline.prompts.text import EMOTICON

_NUMBER = r"[+-]?(?:[0-9]{1,6}(?:\.[0-9]{0,6})?|\.[0-9]{1,6})"
IS_NUMBER = re.compile(rf"\s*({_NUMBER})\s*")
MIDJOURNEY_WEIGHT = re.compile(rf"::\s?({_NUMBER})?")
_NETWORKS = "lora|lyco|lycoris|loha|locon|lokr|dora|hypernet|embed|embedding"
#: Between the parts of a prompt: A1111's own, neutral-prompt's, and those of Regional Prompter, which are no words.
SPLITS = "BREAK|AND(?:_(?:PERP|SALT|TOPK|(?:MASK_)?ALIGN_[0-9]{1,2}_[0-9]{1,2}))?|ADD(?:COMM|BASE|COL|ROW|P)"
TOKEN = re.compile(
    rf"""
    (?P<line>\\[nrt])                                             # a line break escaped once too often
  | (?P<emoticon>{EMOTICON})
  | (?P<escape>\\(?:(?:{SPLITS})\b|[^\w\s]|_))
  | (?P<hidden><(?i:script|style)\b[^<>]*>.*?(?:</(?i:script|style)[^<>]*>|\Z)|<!--.*?(?:-->|\Z)|<\|[^<>|]*\|>)
  | <(?P<network>(?i:{_NETWORKS})):(?:(?P<name>[^<>:\n]*)(?P<more>(?::[^<>]*)?>)
      |(?P<broken>[^<>:,\n]*)(?P<rest>[^<>,\n]*))
  | <(?P<template>(?i:random|wildcard|alternate):[^<>]*)>
  | (?P<part><(?i:break|region|object|segment|base|refiner)\b[^<>]*>    # SwarmUI's
      |\b(?:COUPLE|I?MASK|AREA|FEATHER|FILL)\([0-9.,%\ ]{{0,100}}\))        # ComfyUI's prompt control
  | <(?P<concept>[\w-]+)>                                          # a learnt concept, as diffusers writes it
  | (?P<tag></?[a-zA-Z!][^<>]*>)
  | (?<![\w\\])(?i:embedding):(?P<embedding>[\w./\\-]+)
  | (?P<url>[hH]ttps?://[^\s<>()\[\]{{}},]+)
  | (?P<wildcard>(?<![\w>^@=~-])__[\w/*.~@-]{{1,60}}?__(?!\w))
  | (?<!\S)(?P<dashes>--|[\u2013\u2014])(?P<flag>[a-zA-Z]+)(?=[\s,.]|\Z)
  | \b(?P<split>{SPLITS})\b
  | (?P<variable>\$\{{|\{{{{1,2}}\s?\w{{0,20}}prompt\s?\}})
  | (?P<separator>[,;|\n\r，、；。])
  | (?P<open>\{{[0-9-]{{0,9}}\$\$|[(\[{{])
  | (?P<close>[)\]}}])
  | (?P<colon>:)
  | (?P<backslash>\\)
    """,
    re.VERBOSE | re.DOTALL,
)
FLAG_VALUE = re.compile(r"[ \t]*(?!--)([\w.:/%+-]+)")
NEXT_FLAG = re.compile(r"\s(?:--|[\u2013\u2014])[a-zA-Z]|$")
BARE_FLAGS = {
    "tile",
    "hd",
    "test",
    "testp",
    "creative",
    "upbeta",
    "uplight",
    "beta",
    "fast",
    "relax",
    "turbo",
    "video",
}
VALUE_FLAGS = frozenset((
    "ar", "aspect", "v", "version", "niji", "s", "stylize", "style", "q", "quality", "c", "chaos", "seed", "sameseed",
    "iw", "cref", "cw", "sref", "sw", "oref", "ow", "w", "width", "h", "height", "stop", "weird", "repeat", "r",
    "profile", "p", "exp", "motion", "bs",
))  # fmt: skip
HTML = frozenset((
    "a", "abbr", "article", "aside", "audio", "b", "big", "blockquote", "body", "br", "button", "canvas", "center",
    "cite", "code", "col", "dd", "del", "details", "div", "dl", "dt", "em", "fieldset", "figure", "font", "footer",
    "form", "frame", "h1", "h2", "h3", "h4", "h5", "h6", "head", "header", "hr", "html", "i", "iframe", "img",
    "input", "ins", "kbd", "label", "li", "link", "main", "map", "mark", "meta", "nav", "noscript", "object", "ol",
    "option", "p", "param", "picture", "pre", "q", "s", "samp", "section", "select", "small", "source", "span",
    "strike", "strong", "sub", "summary", "sup", "svg", "table", "tbody", "td", "textarea", "tfoot", "th", "thead",
    "title", "tr", "tt", "u", "ul", "var", "video", "wbr",
))  # fmt: skip
