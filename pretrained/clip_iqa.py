"""CLIP-IQA (Wang, Chan and Loy, arXiv 2207.12396): how much nearer a picture is to "Good photo." than to "Bad photo.".

The paper takes the position embedding out of CLIP's image tower, so that a picture of any size goes in as it is. Here a
picture goes in as the model was trained to see it, resized and with its positions: then the embedding that a build has
anyway serves, and any CLIP does, also one whose tower cannot do without positions. So these figures compare with each
other, not with the paper's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: The antonym prompts of the paper, section 3.2.
ANTONYMS = ("Good photo.", "Bad photo.")


def clip_iqa(
    images: npt.NDArray[np.float32], antonyms: npt.NDArray[np.float32], logit_scale: float
) -> npt.NDArray[np.float64]:
    """P(good), 0 to 1, of image embeddings [N, D] against the embeddings of ``ANTONYMS`` [2, D], all of unit length.

    ``logit_scale`` is the model's factor before the softmax, 100 of OpenAI's.
    """
    good, bad = antonyms.astype(np.float64)
    odds = logit_scale * (images.astype(np.float64) @ (good - bad))
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -700, 700))))
