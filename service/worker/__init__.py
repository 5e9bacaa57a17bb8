"""The worker: `python -m service.worker`.

A parent process (Celery, prefork) takes job ids from the broker, gives them to its children, renews the leases of
what they run and ends what must not run on. It never loads images or models: a child does, and may die of it.
"""
