"""`python -m gateway`."""

from gateway.server import run
from pipeline.settings import settings

run(settings())
