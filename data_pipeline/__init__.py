"""From archive files, or a simulation, to training batches."""

from importlib.util import find_spec

# specutils takes seconds to import: its readers are registered when somebody imports it (or now, if it is
# there). The simulator also runs where neither specutils nor wrapt is installed.
if find_spec("specutils") is not None:
    from wrapt import register_post_import_hook

    register_post_import_hook("data_pipeline.readers.recognise:register", "specutils")
