"""The route table: which blueprint belongs to which group, and which instance serves the group.

A group that is switched off is off as a whole: its paths stay known and answer its denial, before authentication.
docs/routes.md is written from this table (`make docs`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quart import Blueprint, redirect
from werkzeug.wrappers import Response

from .admin import admin_blueprints
from .admin.instance.health import deployment_health_blueprint
from .auth.login import discovery_blueprint, login_blueprint, worker_login_blueprint
from .auth.sign_in_pages import sign_in_blueprint
from .control_plane import console_blueprint
from .errors import PlainDenial
from .llm.passthrough.routes import passthrough_blueprint
from .llm.routes.files import files_blueprint
from .llm.routes.media import media_blueprint
from .llm.routes.openai import llm_blueprint, models_blueprint
from .llm.routes.utilities import utilities_blueprint
from .openapi.page import api_docs_blueprint
from .settings import Settings
from .web.health import health_blueprint, metrics_blueprint

front_door_blueprint = Blueprint("front_door", __name__)


@front_door_blueprint.get("/")
async def front_door() -> Response:
    """People who open the address in a browser want the console."""
    return redirect("/ui/")


@dataclass(frozen=True)
class RouteGroup:
    """`is_open` decides per instance. `denial_status` and `denial` are what a closed group answers.

    `answers_control_plane`: pages on the control plane's origin may call it, once `control_plane_url` is set.
    """

    name: str
    blueprints: tuple[Blueprint, ...]
    when: str
    is_open: Callable[[Settings], bool]
    denial_status: int = 403
    denial: str = ""
    answers_control_plane: bool = True

    def refusal(self) -> PlainDenial:
        return PlainDenial(self.denial, status=self.denial_status)


ROUTE_GROUPS: tuple[RouteGroup, ...] = (
    RouteGroup("health", (health_blueprint,), "always", lambda settings: True),
    RouteGroup("metrics", (metrics_blueprint,), "always", lambda settings: True, answers_control_plane=False),
    RouteGroup("deployments", (deployment_health_blueprint,), "always, to those with a key", lambda settings: True),
    RouteGroup("discovery", (discovery_blueprint, api_docs_blueprint), "always", lambda settings: True),
    RouteGroup(
        "login",
        (login_blueprint, worker_login_blueprint, sign_in_blueprint),
        "unless DISABLE_ADMIN_ENDPOINTS; /v3/login answers 404 without general_settings.control_plane_url",
        lambda settings: not settings.disable_admin_endpoints,
        denial="Management routes are disabled for this instance.",
    ),
    RouteGroup("models", (models_blueprint,), "always: clients and consoles both list models", lambda settings: True),
    RouteGroup(
        "llm",
        (llm_blueprint, media_blueprint, files_blueprint, utilities_blueprint, passthrough_blueprint),
        "unless DISABLE_LLM_API_ENDPOINTS or the instance is a control plane",
        lambda settings: not (settings.disable_llm_api_endpoints or settings.is_control_plane),
        denial="LLM API routes are disabled for this instance.",
    ),
    RouteGroup(
        "admin",
        admin_blueprints,
        "unless DISABLE_ADMIN_ENDPOINTS",
        lambda settings: not settings.disable_admin_endpoints,
        denial="Management routes are disabled for this instance.",
    ),
    RouteGroup(
        "console",
        (front_door_blueprint, console_blueprint),
        "unless DISABLE_ADMIN_UI",
        lambda settings: not settings.disable_admin_ui,
        denial_status=404,
        denial="Not Found",
        answers_control_plane=False,
    ),
)


def closed_groups(settings: Settings) -> dict[str, RouteGroup]:
    """The groups that an instance does not serve, by name."""
    return {group.name: group for group in ROUTE_GROUPS if not group.is_open(settings)}


def group_of_blueprints() -> dict[str, str]:
    """Name of each blueprint -> name of its group."""
    return {blueprint.name: group.name for group in ROUTE_GROUPS for blueprint in group.blueprints}


def same_origin_blueprints() -> frozenset[str]:
    """Names of the blueprints that no page of another origin may call, the control plane's included."""
    return frozenset(
        blueprint.name for group in ROUTE_GROUPS if not group.answers_control_plane for blueprint in group.blueprints
    )
