"""Scoring of files: what `eval`, `leaderboard`, `plausibility` and `deepfake` do, without their printing.

    semantic.py      predictions against truth -> metrics.json, matches.jsonl
    deepfake.py      judgements and explanations against what images are -> deepfake.json
    plausibility.py  what was found in generators' images -> plausibility.json
    leaderboard.py   such folders -> one table

Floor 6: it reads files and hands plain records to the metrics, which know of no files.
"""
