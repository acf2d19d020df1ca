"""Other people's feature files: read into a store, written from one. One file a format; `registry.py` lists them.

Nothing here unpickles. What a file's header claims is compared with the file's own size, and with a limit, before
memory is taken for it.
"""
