"""The documentation as a page, with nothing that a browser would have to fetch elsewhere.

FastAPI's own page loads its scripts from another host: behind a firewall it stays blank, and
where it does not, a stranger's script sees the API keys that are typed into it.
"""

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

__all__ = ["add_documentation"]


def add_documentation(app: FastAPI) -> None:
    """Add `/docs` and, below it, what it needs."""
    # All addresses are relative, and so right behind a proxy that puts a path in front.
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{app.title}: API",
        swagger_js_url="docs/files/swagger-ui-bundle.js",
        swagger_css_url="docs/files/swagger-ui.css",
        swagger_favicon_url="docs/files/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
    )

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> HTMLResponse:
        return page

    files = StaticFiles(packages=[("fastapi_swagger", "resources")])
    app.mount("/docs/files", files, name="documentation files")
