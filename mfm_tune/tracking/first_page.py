"""Choices with which MLflow's pages open, as gunicorn's configuration of the UI's server.

MLflow keeps them in the browser. In one that has none yet, links from page to page end among the tabs for language
models, an assistant opens beside the runs, and a banner asks about usage data, which this server never sends. The first
page therefore makes these choices where the user has made none. Keys that a version of MLflow does not know do nothing.
"""

from __future__ import annotations

import json
from typing import Any

CHOICES = {  # key in the browser's local storage -> value; both in MLflow's form, seen in 3.17
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.settings.telemetry.enabled_v1": False,
    "mlflow.telemetry.info.alert.dismissed_v1": True,
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
}
SCRIPT = (
    f"<script>for (const [key, value] of Object.entries({json.dumps(CHOICES)})) "
    "if (localStorage.getItem(key) === null) localStorage.setItem(key, JSON.stringify(value))</script>"
)


def post_worker_init(worker: Any) -> None:
    """Change the first page; gunicorn calls this in a worker that has loaded MLflow's application."""
    after = getattr(worker.wsgi, "after_request", None)
    if after is not None:  # an application other than Flask's is served as it is
        after(with_choices)


def with_choices(response: Any) -> Any:
    """An answer of MLflow's; in the page, the script goes before the page's own. An artefact is left as it is."""
    name = response.headers.get("Content-Disposition", "")
    if response.status_code == 200 and name == "inline; filename=index.html":
        response.direct_passthrough = False
        response.set_data(response.get_data(as_text=True).replace("<head>", f"<head>{SCRIPT}", 1))
        response.headers.pop("ETag", None)  # of the file
    return response
