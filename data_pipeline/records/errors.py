"""What can go wrong with records, at the writer's and at the reader's side."""


class RecordFormatError(ValueError):
    """An example or a record that does not follow the schema: field, received, expected."""


class RecordIntegrityError(RuntimeError):
    """Files on disk that are not what was written: file, found, expected, cure."""
