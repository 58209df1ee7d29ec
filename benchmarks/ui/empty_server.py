"""`python -m benchmarks.ui.empty_server`: the empty page, served as the dashboard is."""

import gc
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
import uvicorn

from dashboard.app import WARM_IMPORTS
from dashboard.server import listen


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any]]:
    """Streamlit's garbage collection after every run costs the empty page as little as ours."""
    for module in WARM_IMPORTS:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    yield {}


if __name__ == "__main__":
    listener = listen("127.0.0.1", 0)
    print(f"The empty page is on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    app = st.App(Path(__file__).with_name("empty.py"), lifespan=lifespan)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on")
    uvicorn.Server(config).run(sockets=[listener])
