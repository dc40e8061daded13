"""From archive files, or a simulation, to training batches."""

from wrapt import register_post_import_hook

# specutils takes seconds to import: the readers are registered when somebody imports it, or now if it is
# there already
register_post_import_hook("data_pipeline.readers.specutils_loaders:register", "specutils")
