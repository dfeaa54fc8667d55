"""`dataset collect`: images and prompts, from whatever holds them, into the store.

    with anomreason.dataset.open("data", create=True) as store:
        print(collect(store, ["flux/"], CollectOptions(kind="ai")))

collection.py is the main path: inputs.py names the images, looking.py opens them, recording.py writes them down.
"""

from anomreason.dataset.collect.collection import CollectOptions, CollectReport, check, collect

__all__ = ["CollectOptions", "CollectReport", "check", "collect"]
