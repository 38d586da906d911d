"""Which model answers for a name: stored assistants name models that are gone.

The project's map is asked first, then the server's; in either, ``*`` stands for every name that is
not listed. What a map answers is final, so that a project can name what the server's ``*`` would
hide. The projects' maps are held in memory, because a run asks for one before its first token; the
worker's sweep reads them anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..store import model_names
from ..store.database import Database

ANY = "*"


class ModelNames:
    """``server``: the map of the settings. Knows no project's map before :meth:`refresh`."""

    def __init__(self, database: Database, server: Mapping[str, str]) -> None:
        self._database = database
        self._server = server
        self._projects: Mapping[str, Mapping[str, str]] = {}

    async def refresh(self) -> None:
        """See what commands, of this host or another, have changed."""
        self._projects = await self._database.read(model_names.read)

    def resolve(self, project_id: str, model: str) -> str:
        """The model to ask where a run says ``model``."""
        for names in self._maps(project_id):
            target = names.get(model, names.get(ANY))
            if target is not None:
                return target
        return model

    def listed(self, project_id: str) -> Sequence[str]:
        """The names that the project's map or the server's replaces, but for the star."""
        known = {name: None for names in self._maps(project_id) for name in names}
        return [name for name in known if name != ANY]

    def takes_any(self, project_id: str) -> bool:
        """Whether every name stands for some model."""
        return any(ANY in names for names in self._maps(project_id))

    def _maps(self, project_id: str) -> tuple[Mapping[str, str], ...]:
        return self._projects.get(project_id, {}), self._server
