"""The HTTP application: every route of the service behind the guards."""

from aiohttp import web

from services.query.doors import Doors
from services.query.held import Held
from services.query.http.api import Api
from services.query.http.bodies import Bodies
from services.query.http.guards import guards, measure_from_the_start, set_headers
from services.query.http.hosts import AllowedHosts
from services.query.http.page import Page
from services.query.http.probes import Probes
from services.query.settings import QuerySettings
from services.query.stores import Stores
from services.runtime.embedder_client import EmbedderClient
from services.runtime.health import Health


def make_app(
    stores: Stores,
    embedder: EmbedderClient,
    health: Health,
    images: Held,
    doors: Doors,
    settings: QuerySettings,
) -> web.Application:
    """images: to search by, that are in hand."""
    # Bodies have limits of their own: see bodies.py.
    app = web.Application(middlewares=guards(doors, AllowedHosts(settings.allowed_hosts)))
    bodies = Bodies(images)
    routes = app.add_routes(
        [
            *Api(stores, embedder, settings.timeout_s, bodies, doors).routes,
            *Probes(health).routes,
            *Page(stores).routes,
        ]
    )
    app.on_response_prepare.append(set_headers)
    measure_from_the_start(routes)
    return app
