"""TemplateFile: only one option of a task is the path of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from airflow_provider_polaris._compat import BaseOperator as Base
    from airflow_provider_polaris._compat import Context
else:
    Base = object  # an operator without an __init__ of its own would show all options of Airflow as its own


class TemplateFile(Base):
    """Mixin that renders as Airflow does, but loads a file only if the whole option is the path of the file.

    Airflow loads a file for every text that ends like a file of ``template_ext``. For the ``orders.json`` of a job
    spec's ``fileList``, that file would be missing, or its content would be sent. In the list of
    bases, this class comes before the operator.
    """

    #: The name of the option that may be the path of a file.
    file_option: ClassVar[str]

    def render_template(self, content: Any, context: Context, *args: Any, **kwargs: Any) -> Any:
        """Render a value of an option."""
        suffix = next((end for end in self.template_ext if isinstance(content, str) and content.endswith(end)), "")
        if not suffix or content is getattr(self, self.file_option):
            return super().render_template(content, context, *args, **kwargs)
        return f"{self.render_template(content.removesuffix(suffix), context, *args, **kwargs)}{suffix}"
