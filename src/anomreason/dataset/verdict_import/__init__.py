"""Verdicts that people gave in another tool come into the store.

import_verdicts(store, [Path("project-1.json")], "label-studio")
"""

from anomreason.dataset.verdict_import.importing import VerdictImport, import_verdicts

__all__ = ["VerdictImport", "import_verdicts"]
