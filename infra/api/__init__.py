"""The API process: one app of several routers, its server, who may call it, and its metrics."""
