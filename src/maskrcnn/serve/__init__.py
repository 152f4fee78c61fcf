"""`maskrcnn serve`: a model behind HTTP, and a page to try it on. Uploaded files in, JSON or PNG out.

An upload goes `guard` (size, rate, host) -> `uploads` (decoded, resized) -> `batching` (one thread owns the model)
-> `answers`. FastAPI and uvicorn are imported when a server starts, not before.
"""
