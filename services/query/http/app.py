"""The HTTP application: every route of the service behind the guards."""

from aiohttp import web

from services.query.http.api import Api
from services.query.http.guards import BODY, guards, measure_from_the_start
from services.query.http.page import Page
from services.query.http.probes import Probes
from services.query.stores import Stores
from services.runtime.embedder_client import EmbedderClient
from services.runtime.health import Health


def make_app(
    stores: Stores, embedder: EmbedderClient, health: Health, timeout_s: float, host: str
) -> web.Application:
    """Ready to be run on `host`; each answer has `timeout_s`."""
    app = web.Application(client_max_size=int(BODY.value), middlewares=guards(host))
    routes = app.add_routes(
        [
            *Api(stores, embedder, timeout_s).routes,
            *Probes(health).routes,
            *Page(stores).routes,
        ]
    )
    measure_from_the_start(routes)
    return app
