"""Where weights come from: one module per `model.source`.

Each has `weights_id(cfg)`, the identity of the weights without loading them; the sources that have files
also have `prepare(cfg)`, which makes sure that the files are there, fetching and converting them where they
are not. None of them imports torch unless it has to convert.
"""
