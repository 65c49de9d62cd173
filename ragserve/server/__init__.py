"""The HTTP server: `create_app(pipeline)` is the application, `run` puts it on a port."""

from __future__ import annotations

from ragserve.server.app import create_app

__all__ = ["create_app"]
