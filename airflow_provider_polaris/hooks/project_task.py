"""The base of every task that calls a Polaris project: the options that select the project. Cheap to import."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris._compat import BaseOperator, mapped_arguments
from airflow_provider_polaris.api.errors import PolarisUsageError

if TYPE_CHECKING:
    from airflow_provider_polaris.hooks.polaris import PolarisHook

#: The options that select the Polaris project. Templated.
CONNECTION = ("polaris_conn_id", "project_id")


class SignatureWithBases:
    """The ``__signature__`` of a task's class: ``help`` and ``inspect.signature`` show the options of its bases, too.

    The signature is made when it is read. No DAG file pays for it.
    """

    def __get__(self, task: ProjectTask | None, owner: type[ProjectTask]) -> inspect.Signature:
        options: dict[str, inspect.Parameter] = {}
        for base in owner.__mro__:
            if issubclass(base, ProjectTask) and "__init__" in vars(base):
                own = inspect.signature(vars(base)["__init__"]).parameters.values()
                options |= {one.name: one for one in own if one.kind is one.KEYWORD_ONLY and one.name not in options}
        others = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD, annotation="Any")
        return inspect.Signature([*options.values(), others])


class ProjectTask(BaseOperator):
    """A task with the options that select the Polaris project.

    A subclass that is a sensor lists this class before Airflow's sensor class.

    :param polaris_conn_id: a connection of type ``imply_polaris``. (templated)
    :param project_id: overrides the project of the connection. (templated)
    """

    __signature__ = SignatureWithBases()

    def __init__(
        self, *, polaris_conn_id: str = "polaris_default", project_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.polaris_conn_id = polaris_conn_id
        self.project_id = project_id
        self._given = {name for name in CONNECTION if getattr(self, name) is not None}

    def check_given(self, names: tuple[str, ...] = CONNECTION) -> None:
        """Reject options that were given and have rendered to ``None``. They must not count as not given."""
        # A value of None in a mapped argument counts as given: the value comes from another task.
        given = mapped_arguments(self).union(self._given).intersection(names)
        for name in sorted(given):
            if getattr(self, name) is None:
                raise PolarisUsageError(
                    f"{name} was given, and rendered to None. Did the upstream task return a value?"
                )

    @contextmanager
    def opened_hook(self) -> Iterator[PolarisHook]:
        """Return a hook of the project. Its HTTP connections are closed afterwards.

        :raises PolarisUsageError: if an option that selects the project was given and has rendered to ``None``.
        """
        from airflow_provider_polaris.hooks.polaris import PolarisHook

        self.check_given()
        with closing(PolarisHook(self.polaris_conn_id, self.project_id)) as hook:
            yield hook
