"""Where browsers of the field look for single sign-on. Without a provider they find a form of name and password."""

from __future__ import annotations

from html import escape

from quart import Blueprint, Response, request

from ..errors import InvalidRequest, PlainDenial
from ..services import services

sign_in_blueprint = Blueprint("sign_in", __name__)

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{title} · Quarterdeck</title></head>
<body><main><h1>{title}</h1>
{content}
</main></body>
</html>
"""
_FORM = """<form method="post" action="{action}">
<p><label>User name <input name="username" autocomplete="username" required autofocus></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>
<p><button type="submit">Sign in</button></p>
</form>"""
_POLICY = "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"


@sign_in_blueprint.get("/fallback/login")
async def show_form() -> Response:
    """A form of name and password that needs no console and no script."""
    action = escape(f"{services().settings.server_root_path}/login", quote=True)
    return _page("Sign in", _FORM.format(action=action))


@sign_in_blueprint.get("/sso/key/generate")
async def start_sso() -> Response:
    """The provider's sign-in; no provider can be configured yet, so the form."""
    if services().settings.disable_admin_ui:
        return _page("The console is disabled", "<p>This instance does not serve the console.</p>")
    return await show_form()


@sign_in_blueprint.get("/sso/callback")
async def finish_sso() -> Response:
    """Where a provider sends browsers back to. Nobody was sent to one from here."""
    error = request.args.get("error")
    if error:
        description = request.args.get("error_description", "")
        raise PlainDenial(f"OAuth error: {error[:200]}, error_description: {description[:500]}", status=401)
    raise InvalidRequest("Single sign-on is not configured on this instance", type="auth_error", param="code")


def _page(title: str, content: str) -> Response:
    body = _PAGE.format(title=title, content=content)
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"}
    return Response(body, content_type="text/html; charset=utf-8", headers=headers)
