"""Families of transformers' image-to-text models, by the ``model_type`` of their config: what each is to be asked."""

from __future__ import annotations

#: They caption a picture when they are asked nothing. A text given to one is not answered, but continued.
UNPROMPTED = ("blip", "blip-2", "git", "vision-encoder-decoder", "pix2struct")
#: Of them, those that can be given no text at all.
TEXTLESS = ("vision-encoder-decoder",)
#: They know a few tasks by name (``<CAPTION>``; ``describe en``) instead of following instructions, and have no chat.
BY_TASK = ("florence2", "paligemma")
#: Of all, those whose processor takes the bare prompt and places the picture itself.
PLACES_PICTURE = ("florence2",)
