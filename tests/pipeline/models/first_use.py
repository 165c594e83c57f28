"""A program: ten threads that all use a model for the first time at once, and what came of it as JSON.

python -m tests.pipeline.models.first_use LLM TEXT_CLASSIFIER TEXT_ENCODER
"""

import json
import sys
import threading
from collections import Counter

import transformers

from surd.pipeline.facts.similarity import text_vectors
from surd.pipeline.models import Models
from surd.pipeline.models.nsfw import load_text_classifier
from surd.schemas import load_config

load = transformers.PreTrainedModel.from_pretrained.__func__
under_way, most, failed, used = Counter(), 0, [], set()
loads: list[str] = []


def watched(cls, ref, *args, **options):
    """transformers' own, which counts how many run at once."""
    global most
    loads.append(str(ref))
    under_way.update(["load"])
    most = max(most, under_way["load"])
    try:
        return load(cls, ref, *args, **options)
    finally:
        under_way.subtract(["load"])


def main(llm: str, classifier: str, encoder: str) -> None:
    transformers.PreTrainedModel.from_pretrained = classmethod(watched)
    models = Models(load_config({}, {"models.llm": llm, "models.device": "cpu"}).models)
    first_uses = [
        lambda: models.captioner,
        lambda: models.llm,
        lambda: models.vqa,
        lambda: load_text_classifier(classifier, "cpu"),
        lambda: text_vectors(encoder),
    ]
    barrier = threading.Barrier(2 * len(first_uses))

    def use(first_use) -> None:
        barrier.wait()
        try:
            used.add(first_use())
        except Exception as error:
            failed.append(repr(error))

    threads = [threading.Thread(target=use, args=(first_use,)) for first_use in first_uses * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"failed": failed, "at once": most, "loads": len(loads), "models": len(used)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
