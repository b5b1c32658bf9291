"""Data adapters that are shipped: one folder a domain, each a callable ``row -> Example | Skip | None``.

They use only what a plug-in from outside may use: ``pgtune.errors``, ``pgtune.example``, ``pgtune.images`` and
``pgtune.locations``.
"""
